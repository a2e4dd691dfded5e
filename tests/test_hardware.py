"""Where a job is trained: what is chosen, and mixed precision as far as a CPU has it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robacc.attack.pgd import cross_entropy, input_gradient
from robacc.balls import STANDARD, Ball
from robacc.images.in_memory import Images
from robacc.nets import model as nets
from robacc.training import train as training
from robacc.training.hardware import CPU, Hardware, OnDevice, choose, for_evaluation
from robacc.training.jobs import Job
from robacc.training.train import Progress, train, train_step
from tests.recipes_made_up import random_images, tiny

RECIPE = tiny(momentum=0.9, batch_size=9, eps_warmup=0.5)
BF16 = Hardware(torch.device("cpu"), torch.bfloat16, tf32=False, compile_mode=None)
FP16 = replace(BF16, precision=torch.float16)


@pytest.fixture(scope="module")
def images() -> Images:
    return random_images(40)


def net(arch: str = "narrow_cnn") -> nn.Module:
    return nets.build(arch, mean=[0.13], std=[0.31], seed=0)


def pretend(monkeypatch: pytest.MonkeyPatch, *, n_gpus: int, bf16: bool = True) -> None:
    """Let torch say that there are `n_gpus`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)


# ---- The choice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "n_gpus", "bf16", "n_processes", "expected"),
    [
        ("auto", 0, True, 1, ("cpu", torch.float32, False, None)),
        ("cpu", 2, True, 1, ("cpu", torch.float32, False, None)),
        ("auto", 2, True, 1, ("cuda:1", torch.bfloat16, True, "reduce-overhead")),
        ("cuda", 2, True, 4, ("cuda:1", torch.bfloat16, True, "default")),
        ("cuda", 2, False, 1, ("cuda:1", torch.float16, True, "reduce-overhead")),
        ("cuda-fp32", 2, True, 1, ("cuda:1", torch.float32, False, None)),
    ],
)
def test_setting_gpus_and_processes_decide_the_hardware(setting, n_gpus, bf16, n_processes, expected, monkeypatch):
    pretend(monkeypatch, n_gpus=n_gpus, bf16=bf16)
    chosen = choose(setting, local_rank=1, n_processes=n_processes)
    assert (str(chosen.device), chosen.precision, chosen.tf32, chosen.compile_mode) == expected


def test_what_cannot_be_chosen_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="expected hardware to be one of auto, cpu, cuda, cuda-fp32, got 'tpu'"):
        choose("tpu", local_rank=0, n_processes=1)
    pretend(monkeypatch, n_gpus=0)
    with pytest.raises(ValueError, match="expected a GPU for hardware 'cuda', got none"):
        choose("cuda", local_rank=0, n_processes=1)
    pretend(monkeypatch, n_gpus=2)
    with pytest.raises(ValueError, match="expected a GPU for each process of a host, got 2 for process 2"):
        choose("auto", local_rank=2, n_processes=4)


def test_auto_without_a_gpu_trains_the_bytes_of_cpu(images, tmp_path, monkeypatch):
    pretend(monkeypatch, n_gpus=0)
    for setting in ("auto", "cpu"):
        files = {"checkpoint": tmp_path / f"{setting}.running", "checkpoint_every": 3, "log_every": 3}
        progress = train(Job(Ball("l2", 1.0), 40, 1, 0.5), images, RECIPE, hardware=setting, **files)
        nets.save(progress.model, tmp_path / f"{setting}.model", {"log": progress.log})
    for kind in ("running", "model"):
        assert (tmp_path / f"auto.{kind}").read_bytes() == (tmp_path / f"cpu.{kind}").read_bytes()


# ---- Mixed precision ----------------------------------------------------------------------------------------------


def step_on(hardware: Hardware, images: Images, arch: str) -> tuple[Progress, dict]:
    model = hardware.prepare(net(arch))
    progress = Progress(model, torch.optim.SGD(model.parameters(), lr=1.0), 0, [], hardware)
    x, y = images.first(9)
    return progress, train_step(progress, hardware.images(x), y, Job(Ball("l2", 1.0), 40, 0), RECIPE)


@pytest.mark.parametrize("hardware", [BF16, FP16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("arch", ["narrow_cnn", "paper_cnn"])
def test_mixed_precision_computes_the_same_roughly_with_weights_in_float32(hardware, arch, images):
    mixed, row = step_on(hardware, images, arch)
    exact, expected = step_on(CPU, images, arch)
    assert row["loss"] == pytest.approx(expected["loss"], rel=0.02)
    assert row["loss"] != expected["loss"]
    for mine, theirs in zip(mixed.model.parameters(), exact.model.parameters(), strict=True):
        assert mine.dtype == mine.grad.dtype == torch.float32
        scale = mixed.scaler.get_scale()
        cosine = nn.functional.cosine_similarity(mine.grad.flatten() / scale, theirs.grad.flatten(), dim=0)
        assert cosine > 0.95  # rounding changes which pixel some pooling takes


def test_only_float16_scales_its_loss():
    assert [hardware.scaler().is_enabled() for hardware in (CPU, BF16, FP16)] == [False, False, True]


@pytest.mark.parametrize(("hardware", "inside"), [(CPU, False), (BF16, True), (FP16, False)], ids=["32", "b16", "16"])
def test_the_gradient_of_the_attack_is_float32(hardware, inside, images):
    seen: list[torch.dtype] = []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return cross_entropy(logits, labels)

    model = net()
    with hardware.autocast_attack(), nets.frozen(model):
        grad, _ = input_gradient(model, *images.first(9), loss)
    assert grad.dtype == torch.float32
    assert seen == [torch.bfloat16 if inside else torch.float32]


def test_the_scale_of_the_loss_is_resumed(images, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "choose", lambda *_, **__: FP16)  # float16 is never chosen without a GPU
    path, job = tmp_path / "job.running", Job(STANDARD, 40, 0)
    settings = {"log_every": 2, "checkpoint_every": 2, "checkpoint": path}

    def kill(steps: int) -> None:
        if path.exists():
            raise KeyboardInterrupt

    results = [train(job, images, RECIPE, **settings)]
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        train(job, images, RECIPE, **settings, on_step=kill)
    results.append(train(job, images, RECIPE, **settings))
    assert results[0].scaler.state_dict() == results[1].scaler.state_dict()
    for one, other in zip(*(result.model.state_dict().values() for result in results), strict=True):
        assert torch.equal(one, other)


# ---- Evaluation ---------------------------------------------------------------------------------------------------


def test_on_the_cpu_evaluation_asks_the_model_itself(monkeypatch):
    model = nn.Linear(3, 2)
    pretend(monkeypatch, n_gpus=0)
    assert for_evaluation(model, "auto") is model
    with pytest.raises(ValueError, match="expected hardware to be one of"):
        for_evaluation(model, "tpu")


def test_a_model_elsewhere_gives_the_same_logits_and_gradients(images):
    model, (x, y) = net(), images.first(4)
    away = OnDevice(model, torch.device("cpu")).eval()
    for here, there in zip(
        input_gradient(model, x, y, cross_entropy), input_gradient(away, x, y, cross_entropy), strict=True
    ):
        assert torch.equal(here, there)
    assert away(x).device == x.device
    assert not away.model.training
