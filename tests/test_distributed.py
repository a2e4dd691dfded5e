"""Several processes train the model that one would have trained, up to rounding."""

import multiprocessing as mp
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from robacc.attack.norms import threat_model
from robacc.balls import STANDARD, Ball
from robacc.images import in_memory
from robacc.images.batches import batch_indices
from robacc.images.in_memory import Images
from robacc.nets import model as nets
from robacc.params import Recipe
from robacc.seeding import generator
from robacc.training.distributed import JointBatchNorm2d, group, join_batch_norms
from robacc.training.jobs import Job
from robacc.training.store import train_one
from robacc.training.train import Progress, adversarial_batch, train, train_step
from robacc.training.world import ALONE, World
from tests.recipes_made_up import ROOT, random_images, tiny, write_project

RECIPE = tiny(
    optimizer="sgd", lr=[[0.0, 0.05], [1.0, 0.01]], momentum=0.9, batch_size=10, steps=[[1, 4]], attack_steps=3
)
JOBS = [
    Job(Ball("l2", 1.0), 40, 0),
    Job(Ball("linf", 0.1), 40, 1, 0.5),
    Job(Ball("l2", 1.0), 40, 2, 0.5),
    Job(STANDARD, 40, 3),
]


@pytest.fixture(scope="module")
def images() -> Images:
    return random_images(40)


def plain_net(seed: int = 0) -> nn.Module:
    return nets.build("narrow_cnn", mean=[0.13], std=[0.31], seed=seed)


def norm_net(seed: int = 0) -> nn.Module:
    """Return a small net with batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 8, 5, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.BatchNorm2d(8)]
        return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 3 * 3, 10))


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _process(work: Callable[[World], Any], rank: int, size: int, port: int, answer: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with group("cpu") as world:
            answer.send(work(world))
    except BaseException as error:  # noqa: BLE001
        answer.send(error)


def together(size: int, work: Callable[[World], Any]) -> list:
    """Return what `work` returns in each of `size` processes of one group; raise what one of them raises."""
    context, port = mp.get_context("fork"), free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_process, args=(work, rank, size, port, pipes[rank][1])) for rank in range(size)
    ]
    for process in processes:
        process.start()
    try:
        answers = [pipe.recv() if pipe.poll(60) else TimeoutError("a process hangs") for pipe, _ in pipes]
    finally:
        for process in processes:
            process.join(5)
            process.kill()
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def trained(job: Job, images: Images, recipe: Recipe, folder: Path, world: World = ALONE, **more: Any) -> tuple:
    settings = {"log_every": 2, "checkpoint_every": 2, "checkpoint": folder / f"rank{world.rank}.running", **more}
    progress = train(job, images, recipe, world=world, **settings)
    return arrays(progress.model), progress.log


def stepped(job: Job, images: Images, recipe: Recipe, _: Path, world: World = ALONE) -> tuple:
    """Do what `trained` does with a net that has batch norms, and no name."""
    model, rows = norm_net(job.seed), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, nesterov=True)
    progress = Progress(model, optimizer, 0, [], world=world)
    for step in range(4):
        indices = batch_indices(torch.arange(40), step, recipe.batch_size, seed=job.seed)
        rows.append(train_step(progress, *images.batch(indices[world.shard(recipe.batch_size)]), job, recipe))
    return arrays(model), rows


def assert_same(one: tuple, other: tuple) -> None:
    """Assert that two results of `trained` differ by rounding at most."""
    for name, value in one[0].items():
        np.testing.assert_allclose(other[0][name], value, rtol=1e-4, atol=2e-6, err_msg=name)
    for mine, theirs in zip(one[1], other[1], strict=True):
        rounded = {key: pytest.approx(theirs[key]) for key in ("loss", "accuracy")}
        assert mine == {**theirs, **rounded}


def assert_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


# ---- The same model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "size", "batch_size"),
    [*((job, 2, 10) for job in JOBS), *((JOBS[1], *sizes) for sizes in ((2, 9), (3, 10), (3, 4)))],
    ids=str,
)
@pytest.mark.parametrize(("way", "net"), [(trained, plain_net), (stepped, norm_net)], ids=["plain", "batch norm"])
def test_several_processes_train_the_model_of_one_also_in_unequal_shares(
    way, net, job, size, batch_size, images, tmp_path
):
    recipe = RECIPE.model_copy(update={"batch_size": batch_size})
    alone = way(job, images, recipe, tmp_path / "alone")
    first, *others = together(size, lambda world: way(job, images, recipe, tmp_path / "all", world))
    assert_same(alone, first)
    for other in others:
        assert_bits(first[0], other[0])
        assert first[1] == other[1]
    begin = arrays(net(job.seed))
    moved = max(np.abs(value - first[0][name]).max() for name, value in begin.items() if "weight" in name)
    assert moved > 0.005  # far more than the tolerance


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_augmentation_and_both_optimizers(optimizer, images, tmp_path):
    change = {"optimizer": optimizer, "lr": [[0.0, 0.002], [1.0, 0.0]], "augment": "crop_flip", "padding": 2}
    recipe = RECIPE.model_copy(update=change)
    alone = trained(JOBS[0], images, recipe, tmp_path / "alone")
    first, _ = together(2, lambda world: trained(JOBS[0], images, recipe, tmp_path / "both", world))
    for name, value in alone[0].items():  # Adam divides by a gradient's size, which for the smallest is rounding
        np.testing.assert_allclose(first[0][name], value, atol=1e-4 if optimizer == "adam" else 2e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [7, 8, 20])
def test_shares_cover_the_batch_in_order(n, size):
    worlds = [World() for _ in range(size)]
    for rank, world in enumerate(worlds):
        world.rank, world.size = rank, size
    parts = [torch.arange(n)[world.shard(n)] for world in worlds]
    assert torch.equal(torch.cat(parts), torch.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    worlds[0].size = n + 1
    with pytest.raises(ValueError, match=f"expected a batch of at least one example a process, got {n} for {n + 1}"):
        worlds[0].shard(n)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("natural", [0, 2, 4, 5, 10])
def test_a_share_gets_its_part_of_the_whole_adversarial_batch(natural, norm, images):
    model, threat, (x, y) = plain_net(), threat_model(norm, 0.2), images.first(10)
    whole = adversarial_batch(model, x, y, threat, RECIPE, natural=natural, noise=generator(0))
    for part in (slice(0, 4), slice(4, 7), slice(7, 10)):
        place = {"noise": generator(0), "part_of": (part.start, 10)}
        made = adversarial_batch(model, x[part], y[part], threat, RECIPE, natural=natural, **place)
        torch.testing.assert_close(made, whole[part], rtol=0, atol=1e-5)


# ---- Batch norm ---------------------------------------------------------------------------------------------------


def test_a_joint_batch_norm_is_pytorchs_on_all_examples():
    x = 3 + torch.randn(9, 4, 5, 6, generator=generator(0))
    weights = torch.randn(x.shape, generator=generator(1))

    def pass_through(layer: nn.Module, part: slice) -> list[np.ndarray]:
        nn.init.normal_(layer.weight, generator=generator(2))
        mine = x[part].clone().requires_grad_()
        out = layer.train()(mine)
        (out * weights[part]).sum().backward()
        evaluated = layer.eval()(x[:2]).detach()
        tensors = [out.detach(), mine.grad, layer.weight.grad, layer.bias.grad, *layer.buffers(), evaluated]
        return [value.numpy() for value in tensors]

    def joint(world: World) -> list[np.ndarray]:
        return pass_through(JointBatchNorm2d(4), slice(0, 3) if world.rank == 0 else slice(3, 9))

    expected = pass_through(nn.BatchNorm2d(4), slice(0, 9))
    first, second = together(2, joint)
    whole = [np.concatenate([a, b]) for a, b in zip(first[:2], second[:2], strict=True)]
    sums = [a + b for a, b in zip(first[2:4], second[2:4], strict=True)]
    for value, wanted in zip([*whole, *sums, *first[4:]], expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(first[4:], second[4:], strict=True):
        assert np.array_equal(mine, theirs)


def test_joining_keeps_tensors_names_and_mode():
    model = norm_net().eval()
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    joined = join_batch_norms(model)
    assert sum(isinstance(module, JointBatchNorm2d) for module in joined.modules()) == 2
    assert not any(type(module) is nn.BatchNorm2d or module.training for module in joined.modules())
    now = dict(joined.named_parameters()) | dict(joined.named_buffers())
    assert now.keys() == tensors.keys()
    assert all(now[name] is value for name, value in tensors.items())


# ---- What is sent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [plain_net, norm_net])
def test_the_attack_sends_nothing_and_leaves_no_gradient(net, images):
    def count(world: World) -> dict[str, int]:
        sent, model = dict.fromkeys(("attack", "step", "gradients", "passes", "joined"), 0), net()
        progress = Progress(model, torch.optim.SGD(model.parameters(), lr=1.0), 0, [], world=world)

        def sending(what: str) -> None:
            sent[what if model.training else "attack"] += 1  # an attack runs in evaluation mode

        def counted(send: Callable) -> Callable:
            def call(*args: Any, **named: Any) -> Any:
                sending("step")
                return send(*args, **named)

            return call

        def gradients(state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
            sending("gradients")
            buffer = bucket.buffer().div_(world.size)
            return dist.all_reduce(buffer, async_op=True).get_future().then(lambda done: done.value()[0])

        def joined(*_: object) -> None:
            sent["joined"] += 1

        def look(*_: object) -> None:
            sent["passes"] += not model.training
            assert all(parameter.grad is None for parameter in model.parameters())

        progress.joined.register_forward_pre_hook(joined)
        model.register_forward_pre_hook(look)
        progress.joined.register_comm_hook(None, gradients)
        for name in ("all_reduce", "broadcast", "all_gather", "barrier"):
            setattr(dist, name, counted(getattr(dist, name)))
        x, y = images.batch(torch.arange(10)[world.shard(10)])
        train_step(progress, x, y, JOBS[0], RECIPE)
        return sent

    for sent in together(2, count):
        assert sent["attack"] == 0
        assert sent["passes"] == RECIPE.attack_steps
        assert sent["joined"] == 1
        assert sent["gradients"] >= 1
        assert sent["step"] >= 1


# ---- Files --------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for the end of a process."""


def test_all_go_on_from_the_checkpoint_of_the_first_which_alone_writes(images, tmp_path):
    whole = together(2, lambda world: trained(JOBS[2], images, RECIPE, tmp_path / "whole", world))

    def interrupted(world: World) -> list[str]:
        done = 0

        def kill(steps: int) -> None:
            nonlocal done
            done += steps
            if done == 3:
                raise Killed

        with pytest.raises(Killed):
            trained(JOBS[2], images, RECIPE, tmp_path / "cut", world, on_step=kill)
        world.wait()
        return sorted(file.name for file in (tmp_path / "cut").iterdir())

    assert together(2, interrupted) == [["rank0.running"]] * 2

    def resumed(world: World) -> tuple:
        counted: list[int] = []
        return *trained(JOBS[2], images, RECIPE, tmp_path / "cut", world, on_step=counted.append), counted

    for result in together(2, resumed):
        assert result[2] == [2, 1, 1]
        assert_bits(result[0], whole[0][0])
        assert result[1] == whole[0][1]


@pytest.fixture
def kept(images: Images, tmp_path: Path) -> Callable[..., tuple[bool, bool]]:
    """Give kept(world, job): ask the store for a job; whether its model is on this process's disk, and is new."""
    train_set = tmp_path / "train.safetensors"
    in_memory.save(images.x, images.y, train_set)

    def ask(world: World, job: Job = JOBS[1]) -> tuple[bool, bool]:
        settings = {"train_set": train_set, "settings": {"log_every": 2, "checkpoint_every": 2}, "code": "code"}
        folder = tmp_path / str(world.rank)
        file, is_new = train_one(job, lambda _: None, recipe=RECIPE, checkpoints=folder, world=world, **settings)
        return file.exists(), is_new

    return ask


def test_the_first_process_alone_finds_and_writes_the_model(kept, tmp_path):
    assert together(2, kept) == [(True, True), (False, True)]
    assert together(2, kept) == [(True, False), (False, False)]
    assert kept(ALONE) == (True, False)
    (file,) = (tmp_path / "0").iterdir()
    assert nets.load(file)[1]["processes"] == 2
    assert not (tmp_path / "1").exists()


def test_hosts_with_different_jobs_are_refused(kept):
    def work(world: World) -> str:
        with pytest.raises(ValueError, match="to be the same on every host, got another one in 1 processes") as caught:
            kept(world, JOBS[world.rank])
        return str(caught.value)

    assert together(2, work)[0].startswith("expected the job's key, of data, code")


# ---- torchrun -----------------------------------------------------------------------------------------------------


def test_outside_torchrun_there_is_an_error_that_names_it(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ValueError, match="expected RANK in the environment, got none; start this with torchrun"),
        group("cpu"),
    ):
        pass


def test_one_process_of_torchrun_is_alone(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with group("cpu") as world:
        assert world is ALONE
    assert not dist.is_initialized()


def in_project(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ROBACC_WORKERS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout


def test_torchrun_trains_the_model_that_the_stage_then_finds(tmp_path):
    small = {"batch_size": 9, "steps": [[1, 6]]}
    write_project(tmp_path, 40, recipe=small, training={"log_every": 2, "checkpoint_every": 2})
    in_project(tmp_path, "stages.code")
    job = ["--dataset", "mnist", "--ball", "l2-0.5"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "stages.train_distributed"]
    out = in_project(tmp_path, *torchrun, *job, "--seed", "0")
    assert "[6/6]" in out
    assert "l2-0.5, 40 images, seed 0: trained, 2 processes" in out
    assert re.search(r"^0 jobs trained in \d+ s, 1 finished already$", in_project(tmp_path, "stages.train", *job), re.M)
    name = "mnist-l2-0.5/seed0-natural0.0.safetensors"
    model, spec = nets.load(tmp_path / "models" / name)
    assert spec["processes"] == 2
    shutil.rmtree(tmp_path / "checkpoints")
    in_project(tmp_path, "stages.train", *job)
    alone, spec = nets.load(tmp_path / "models" / name)
    assert spec["processes"] == 1
    for mine, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)
