"""Where a job is trained: what is chosen, the CPU's path bit for bit, and mixed precision as far as a CPU has it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robacc import models, training
from robacc.attacks import cross_entropy, input_gradient, pgd, random_start
from robacc.augment import crop_and_flip
from robacc.data import Images, batch_indices, content_hash, nested_subset
from robacc.hardware import CPU, Elsewhere, Hardware, answering, choose
from robacc.norms import ball
from robacc.seeding import generator
from robacc.training import Job, Progress, Recipe, learning_rate, train, train_step
from tests.recipes_made_up import TINY

RECIPE = replace(TINY, momentum=0.9, batch_size=9, eps_warmup=0.5)
BF16 = Hardware(torch.device("cpu"), torch.bfloat16, tf32=False, compile_mode=None)
FP16 = replace(BF16, precision=torch.float16)


@pytest.fixture
def images() -> Images:
    """Forty random images with their labels."""
    x = torch.tensor(np.random.default_rng(0).integers(256, size=(40, 1, 28, 28)), dtype=torch.uint8)
    y = torch.arange(40) % 10
    return Images(x, y, content_hash(x, y))


def as_before(job: Job, images: Images, recipe: Recipe) -> tuple[nn.Module, list[float]]:
    """Return model and losses of the loop that was there before there was a choice of hardware, line by line."""
    subset = nested_subset(images.y, job.n_train, seed=job.seed)
    model = models.build(recipe.arch, mean=recipe.mean, std=recipe.std, seed=job.seed)
    optimizer, n_steps, losses = training._optimizer(model, recipe), recipe.n_steps(job.n_train), []
    for step in range(n_steps):
        x, y = images.batch(batch_indices(subset, step, recipe.batch_size, seed=job.seed))
        x = x.contiguous(memory_format=torch.channels_last)
        threat = ball(job.norm, job.eps * min(1.0, (step + 1) / (recipe.eps_warmup * n_steps)))
        natural, noise = round(job.natural_fraction * len(x)), generator(job.seed, "start", step)
        if threat.eps > 0:
            attacked, labels = x[natural:], y[natural:]
            start, step_size = random_start(attacked, threat, noise), recipe.attack_step_size * threat.eps
            made = pgd(model, attacked, labels, threat, start=start, n_steps=recipe.attack_steps, step_size=step_size)
            x = torch.cat([x[:natural], made])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step / n_steps)
        model.train()
        loss = cross_entropy(model(x), y).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("setting", ["cpu", "auto"])
@pytest.mark.parametrize("arch", models.ARCHITECTURES)
@pytest.mark.parametrize("job", [Job("l2", 0.0, 30, 0), Job("l2", 1.0, 40, 1, 0.5), Job("linf", 0.2, 40, 2)], ids=str)
def test_without_a_gpu_nothing_has_changed_by_a_bit(job, arch, setting, images, tmp_path):
    if setting == "auto" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which auto chooses")
    recipe = replace(RECIPE, arch=arch, optimizer="adam" if arch == "small_cnn" else "sgd", steps=[[1, 4]])
    expected, losses = as_before(job, images, recipe)
    files = {"checkpoint": tmp_path / "job.running", "checkpoint_every": 2, "log_every": 1}
    progress = train(job, images, recipe, hardware=setting, **files)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, progress.model.state_dict()[name]), name
    assert [row["loss"] for row in progress.log] == losses


def pretend(monkeypatch: pytest.MonkeyPatch, *, n_gpus: int, bf16: bool = True) -> None:
    """Let torch say that there are `n_gpus`."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)


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
def test_the_choice(setting, n_gpus, bf16, n_processes, expected, monkeypatch):
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


def step_on(hardware: Hardware, images: Images, arch: str = "small_cnn") -> tuple[Progress, dict]:
    model = hardware.prepare(models.build(arch, mean=[0.13], std=[0.31], seed=0))
    progress = Progress(model, training._optimizer(model, RECIPE), 0, [], hardware)
    x, y = images.batch(torch.arange(9))
    row = train_step(progress, hardware.images(x), y, Job("l2", 1.0, 40, 0), RECIPE)
    return progress, row


@pytest.mark.parametrize("hardware", [BF16, FP16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("arch", models.ARCHITECTURES)
def test_mixed_precision_computes_the_same_roughly_with_weights_in_float32(hardware, arch, images):
    mixed, row = step_on(hardware, images, arch)
    exact, expected = step_on(CPU, images, arch)
    assert row["loss"] == pytest.approx(expected["loss"], rel=0.02)
    assert row["loss"] != expected["loss"]
    for mine, theirs in zip(mixed.model.parameters(), exact.model.parameters(), strict=True):
        assert mine.dtype == mine.grad.dtype == torch.float32
        scale = mixed.scaler.get_scale()
        cosine = nn.functional.cosine_similarity(mine.grad.flatten() / scale, theirs.grad.flatten(), dim=0)
        assert cosine > 0.98


def test_only_float16_scales_its_loss():
    assert [hardware.scaler().is_enabled() for hardware in (CPU, BF16, FP16)] == [False, False, True]


@pytest.mark.parametrize(("hardware", "inside"), [(CPU, False), (BF16, True), (FP16, False)], ids=["32", "b16", "16"])
def test_the_gradient_of_the_attack_is_float32(hardware, inside, images):
    x, y = images.batch(torch.arange(9))
    seen: list[torch.dtype] = []

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return cross_entropy(logits, labels)

    with hardware.autocast_attack():
        grad, _ = input_gradient(models.build("small_cnn", mean=[0.13], std=[0.31], seed=0), x, y, loss)
    assert grad.dtype == torch.float32
    assert seen == [torch.bfloat16 if inside else torch.float32]


def test_the_scale_of_the_loss_is_resumed(images, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "choose", lambda *_, **__: FP16)
    path, results = tmp_path / "job.running", []
    settings = {"log_every": 2, "checkpoint_every": 2, "checkpoint": path}

    def kill(steps: int) -> None:
        if path.exists():
            raise KeyboardInterrupt

    results.append(train(Job("l2", 0.0, 40, 0), images, RECIPE, **settings))
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        train(Job("l2", 0.0, 40, 0), images, RECIPE, **settings, on_step=kill)
    results.append(train(Job("l2", 0.0, 40, 0), images, RECIPE, **settings))
    assert results[0].scaler.state_dict() == results[1].scaler.state_dict()
    for one, other in zip(*(result.model.state_dict().values() for result in results), strict=True):
        assert torch.equal(one, other)


def test_a_batch_of_another_size_is_refused(images):
    model = models.build("small_cnn", mean=[0.13], std=[0.31], seed=0)
    progress = Progress(model, training._optimizer(model, RECIPE), 0, [])
    with pytest.raises(ValueError, match="expected 9 examples, a share of batch_size 9, got 8"):
        train_step(progress, *images.batch(torch.arange(8)), Job("l2", 1.0, 40, 0), RECIPE)


def test_augmentation_comes_before_the_attack_and_differs_from_step_to_step(images, tmp_path, monkeypatch):
    seen: list[Tensor] = []

    def record(progress: Progress, x: Tensor, *more: object) -> dict:
        seen.append(x.clone())
        return train_step(progress, x, *more)

    monkeypatch.setattr(training, "train_step", record)
    recipe = replace(RECIPE, augment="crop_flip", padding=2, batch_size=40, steps=[[1, 2]])
    files = {"checkpoint": Path(tmp_path / "job.running"), "checkpoint_every": 2, "log_every": 1}
    train(Job("l2", 0.0, 40, 0), images, recipe, **files)
    subset = nested_subset(images.y, 40, seed=0)
    for step, x in enumerate(seen):
        plain, _ = images.batch(batch_indices(subset, step, 40, seed=0))
        assert torch.equal(x, crop_and_flip(plain, 2, generator(0, "augment", step)))
    with pytest.raises(
        ValueError, match="expected augment to be 'none' or 'crop_flip' for images in memory, got 'blur'"
    ):
        train(Job("l2", 0.0, 40, 0), images, replace(recipe, augment="blur"), **files)


# ---- Evaluation ---------------------------------------------------------------------------------------------------


def test_on_the_cpu_evaluation_asks_the_model_itself():
    model = nn.Linear(3, 2)
    assert answering(model, "auto" if not torch.cuda.is_available() else "cpu") is model
    with pytest.raises(ValueError, match="expected hardware to be one of"):
        answering(model, "tpu")


def test_a_model_elsewhere_gives_the_same_logits_and_gradients(images):
    model = models.build("small_cnn", mean=[0.13], std=[0.31], seed=0).eval()
    x, y = images.batch(torch.arange(4))
    away = Elsewhere(model, torch.device("cpu")).eval()
    for here, there in zip(
        input_gradient(model, x, y, cross_entropy), input_gradient(away, x, y, cross_entropy), strict=True
    ):
        assert torch.equal(here, there)
    assert away(x).device == x.device
    assert not away.model.training
