"""One training job: standard (eps = 0) or PGD adversarial training (Madry et al. 2018)."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robacc import models
from robacc.attacks import cross_entropy, pgd, random_start
from robacc.data import ImageSet, nested_subset
from robacc.files import write_tensors
from robacc.hardware import CPU, Hardware, choose
from robacc.norms import Ball, ball
from robacc.seeding import generator
from robacc.world import ALONE, World


@dataclass(frozen=True)
class Recipe:
    """How to train; see `params.yaml` for what each number means and the paper's value."""

    arch: str
    mean: list[float]
    std: list[float]
    optimizer: str
    lr: list[list[float]]
    weight_decay: float
    momentum: float
    batch_size: int
    steps: list[list[int]]
    attack_steps: int
    attack_step_size: float
    eps_warmup: float
    n_classes: int = 10
    augment: str = "none"  # or "crop_flip"; of images read from files "random_crop"
    padding: int = 0

    def n_steps(self, n_train: int) -> int:
        """Return the number of optimiser steps for `n_train` images: the last row whose size is reached."""
        return max((size, steps) for size, steps in self.steps if size <= n_train)[1]


@dataclass(frozen=True)
class Job:
    """What to train: the ball (eps = 0 is standard training), the number of images, the seed.

    `natural_fraction` of every batch is left unperturbed (0.5 is the paper's Appendix B).
    """

    norm: str
    eps: float
    n_train: int
    seed: int
    natural_fraction: float = 0.0

    def __str__(self) -> str:
        threat = f"{self.norm} eps {self.eps}" if self.eps else "standard"
        mixed = f", natural {self.natural_fraction}" if self.natural_fraction else ""
        return f"{threat}, {self.n_train} images, seed {self.seed}{mixed}"


@dataclass
class Progress:
    """A job under way: what a checkpoint holds, and where it runs. `log` has one row every `log_every` steps.

    `joined` is the model as the optimiser step runs it, which averages gradients over the processes of
    `world`. The attack runs on `model` itself, and sends nothing.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int
    log: list[dict]
    hardware: Hardware = CPU
    world: World = ALONE
    joined: nn.Module = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.joined, self.scaler = self.world.join(self.model), self.hardware.scaler()


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=1.0, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "sgd":
        momentum, decay = recipe.momentum, recipe.weight_decay
        return torch.optim.SGD(model.parameters(), lr=1.0, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)
    raise ValueError(f"expected optimizer to be 'adam' or 'sgd', got {recipe.optimizer!r}")


def learning_rate(recipe: Recipe, done: float) -> float:
    """Return the learning rate after a share `done` in [0, 1] of the steps: linear between the knots."""
    knots, rates = zip(*recipe.lr, strict=True)
    return float(np.interp(done, knots, rates))


def adversarial_batch(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Ball,
    recipe: Recipe,
    *,
    natural: int,
    noise: torch.Generator,
    place: tuple[int, int] | None = None,
) -> Tensor:
    """Return `x` with all but the first `natural` examples replaced by PGD's last iterate.

    With `place` = (first, total), `x` is a part of a batch of `total` examples beginning at `first`, of which
    the first `natural` are natural: the result is that part of the whole batch's, but for rounding.
    """
    first, total = place or (0, len(x))
    kept = min(max(natural - first, 0), len(x))
    if threat.eps == 0 or kept == len(x):
        return x
    clean, x, y = x[:kept], x[kept:], y[kept:]
    x_adv = pgd(
        model,
        x,
        y,
        threat,
        start=random_start(x, threat, noise, (first + kept - natural, total - natural)),
        n_steps=recipe.attack_steps,
        step_size=recipe.attack_step_size * threat.eps,
    )
    return torch.cat([clean, x_adv])


def train_step(progress: Progress, x: Tensor, y: Tensor, job: Job, recipe: Recipe) -> dict:
    """Do one optimiser step on the batch `x`, `y`; return its learning rate, loss and accuracy.

    In a world of several processes `x` and `y` are this one's share, and what is returned is the whole batch's.
    Raises ValueError if the share has another size, FloatingPointError when the loss is not finite.
    """
    world, total = progress.world, recipe.batch_size
    mine = world.shard(total)
    if len(x) != mine.stop - mine.start:
        raise ValueError(f"expected {mine.stop - mine.start} examples, a share of batch_size {total}, got {len(x)}")
    n_steps = recipe.n_steps(job.n_train)
    done = progress.step / n_steps
    warmup = min(1.0, (progress.step + 1) / (recipe.eps_warmup * n_steps)) if recipe.eps_warmup else 1.0
    with progress.hardware.autocast_attack():
        x_adv = adversarial_batch(
            progress.model,
            x,
            y,
            ball(job.norm, job.eps * warmup),
            recipe,
            natural=round(job.natural_fraction * total),
            noise=generator(job.seed, "start", progress.step),
            place=(mine.start, total),
        )
    lr = learning_rate(recipe, done)
    for group in progress.optimizer.param_groups:
        group["lr"] = lr
    progress.model.train()
    with progress.hardware.autocast():
        logits = progress.joined(x_adv)
        loss = cross_entropy(logits, y).mean()
    # Gradients are averaged over processes, whose shares may differ in size: exactly 1 for one process.
    weight = len(x) * world.size / total
    progress.optimizer.zero_grad(set_to_none=True)
    progress.scaler.scale(loss * weight).backward()
    progress.scaler.step(progress.optimizer)
    progress.scaler.update()
    progress.step += 1
    accuracy = (logits.argmax(1) == y).float().mean()
    means = world.total(torch.stack([loss.detach(), accuracy]) * weight) / world.size
    loss_mean, accuracy_mean = means.tolist()
    if not means.isfinite().all():
        raise FloatingPointError(f"the training loss became {loss_mean} at step {progress.step} of {job}")
    return {"lr": lr, "loss": loss_mean, "accuracy": accuracy_mean}


def _batches(
    images: ImageSet, steps: range, job: Job, recipe: Recipe, world: World, n_decoders: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this process's share of the batch of each step."""
    return images.training_batches(
        nested_subset(images.y, job.n_train, seed=job.seed),
        steps,
        batch_size=recipe.batch_size,
        seed=job.seed,
        augment=recipe.augment,
        padding=recipe.padding,
        share=world.shard(recipe.batch_size),
        n_decoders=n_decoders,
    )


def train(
    job: Job,
    images: ImageSet,
    recipe: Recipe,
    *,
    log_every: int,
    checkpoint: Path,
    checkpoint_every: int,
    on_step: Callable[[int], None] = lambda steps: None,
    hardware: str = "cpu",
    n_decoders: int = 0,
    world: World = ALONE,
) -> Progress:
    """Train the job from the beginning, or from `checkpoint` if it is there, to the last step.

    The result is a function of (job, images, recipe): every random draw is seeded by the job's
    seed and the step, so stopping and resuming changes nothing. The last iterate is returned;
    no test image is seen and nothing is selected. Log rows average the steps since the last one:
    `loss` and `accuracy` are on the batches trained on, perturbed if eps > 0.
    `hardware` is a setting of `robacc.hardware.choose`, `n_decoders` one of `ImageSet.training_batches`.
    Where `world` is several processes, each calls this and returns the same, that of one process up to
    rounding; only the first writes and reads `checkpoint`.
    Raises FloatingPointError when the loss is not finite.
    """
    n_steps = recipe.n_steps(job.n_train)
    place = choose(hardware, local_rank=world.local_rank, n_processes=world.size)
    progress = _resume(job, recipe, world.read(checkpoint), place, world)
    on_step(progress.step)
    rows: list[dict] = []
    for x, y in _batches(images, range(progress.step, n_steps), job, recipe, world, n_decoders):
        rows.append(train_step(progress, place.images(x), y.to(place.device), job, recipe))
        on_step(1)
        if progress.step % log_every == 0 or progress.step == n_steps:
            means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
            epoch = progress.step * recipe.batch_size / job.n_train
            progress.log.append({**asdict(job), "step": progress.step, "epoch": epoch, **means})
            rows = []
            if progress.step % checkpoint_every == 0 and progress.step < n_steps and world.rank == 0:
                _save_checkpoint(progress, checkpoint)
    return progress


def _save_checkpoint(progress: Progress, path: Path) -> None:
    tensors = {f"model.{name}": value for name, value in progress.model.state_dict().items()}
    for index, state in progress.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items() if value is not None}
    write_tensors(tensors, path, {"step": progress.step, "log": progress.log, "scaler": progress.scaler.state_dict()})


def _resume(
    job: Job, recipe: Recipe, saved: tuple[dict[str, Tensor], dict] | None, hardware: Hardware, world: World
) -> Progress:
    model = models.build(recipe.arch, mean=recipe.mean, std=recipe.std, seed=job.seed, n_classes=recipe.n_classes)
    model = hardware.prepare(model)
    progress = Progress(model, _optimizer(model, recipe), 0, [], hardware, world)
    if saved is not None:
        tensors, metadata = saved
        states: dict[int, dict[str, Tensor]] = {}
        for name in [name for name in tensors if name.startswith("optimizer.")]:
            _, index, key = name.split(".", 2)
            states.setdefault(int(index), {})[key] = tensors.pop(name)
        model.load_state_dict({name.removeprefix("model."): value for name, value in tensors.items()})
        optimizer_state = progress.optimizer.state_dict()
        progress.optimizer.load_state_dict({**optimizer_state, "state": states})
        progress.scaler.load_state_dict(metadata["scaler"])
        progress.step, progress.log = metadata["step"], metadata["log"]
    return progress
