"""Train one model: standard training (eps = 0) or PGD adversarial training (Madry et al. 2018)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robacc.attack.norms import Threat, threat_model
from robacc.attack.pgd import cross_entropy, pgd, random_start
from robacc.files import write_tensors
from robacc.images.batches import nested_subset
from robacc.images.sets import ImageSet
from robacc.nets import model as nets
from robacc.params import Recipe
from robacc.seeding import generator
from robacc.training.hardware import CPU, Hardware, choose
from robacc.training.jobs import Job
from robacc.training.world import ALONE, World


def n_steps(recipe: Recipe, n_train: int) -> int:
    """Return the number of optimiser steps for `n_train` images.

    It is in the last row of `recipe.steps` whose size is at most `n_train`.
    """
    return max((size, steps) for size, steps in recipe.steps if size <= n_train)[1]


@dataclass
class Progress:
    """The state of a running job, as in a checkpoint, and its hardware.

    `log` has one row for every `log_every` steps. `joined` is `model` with gradients averaged over the processes of
    `world`, for the optimiser step. `attack` calls `model` itself, without communication.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int
    log: list[dict]
    hardware: Hardware = CPU
    world: World = ALONE
    attack: Callable[..., Tensor] = field(init=False)
    joined: nn.Module = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.attack, self.scaler = self.hardware.attack(), self.hardware.scaler()
        self.joined = self.world.join(self.model)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=1.0, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "sgd":
        momentum, decay = recipe.momentum, recipe.weight_decay
        return torch.optim.SGD(model.parameters(), lr=1.0, momentum=momentum, weight_decay=decay, nesterov=momentum > 0)
    raise ValueError(f"expected optimizer to be 'adam' or 'sgd', got {recipe.optimizer!r}")


def learning_rate(recipe: Recipe, done: float) -> float:
    """Return the learning rate after the share `done` in [0, 1] of the steps.

    The rate is linear between the knots of `recipe.lr`.
    """
    knots, rates = zip(*recipe.lr, strict=True)
    return float(np.interp(done, knots, rates))


def adversarial_batch(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    recipe: Recipe,
    *,
    natural: int,
    noise: torch.Generator,
    part_of: tuple[int, int] | None = None,
    attack: Callable[..., Tensor] = pgd,
) -> Tensor:
    """Return `x` [B, ...] with all examples but the first `natural` replaced by PGD's last iterates.

    `part_of` = (first, total) says that `x` is part of a batch of `total` examples, from index `first` on. `natural`
    then counts from the start of the whole batch. Up to rounding, the result is that part of the whole batch's result.
    `attack` is `pgd` or `Hardware.attack()`.
    """
    first, total = part_of or (0, len(x))
    kept = min(max(natural - first, 0), len(x))
    if threat.eps == 0 or kept == len(x):
        return x
    clean, x, y = x[:kept], x[kept:], y[kept:]
    x_adv = attack(
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

    With several processes, `x` and `y` are this process's share of the batch. The loss and accuracy are those of the
    whole batch. Raises ValueError if the share has another size, and FloatingPointError if the loss is not finite.
    """
    world, total = progress.world, recipe.batch_size
    mine = world.shard(total)
    if len(x) != mine.stop - mine.start:
        raise ValueError(f"expected {mine.stop - mine.start} examples, a share of batch_size {total}, got {len(x)}")
    n_total = n_steps(recipe, job.n_train)
    done = progress.step / n_total
    warmup = min(1.0, (progress.step + 1) / (recipe.eps_warmup * n_total)) if recipe.eps_warmup else 1.0
    with progress.hardware.autocast_attack():
        x_adv = adversarial_batch(
            progress.model,
            x,
            y,
            threat_model(job.ball.norm, job.ball.eps * warmup),
            recipe,
            natural=round(job.natural_fraction * total),
            noise=generator(job.seed, "start", progress.step),
            part_of=(mine.start, total),
            attack=progress.attack,
        )
    lr = learning_rate(recipe, done)
    for group in progress.optimizer.param_groups:
        group["lr"] = lr
    progress.model.train()
    with progress.hardware.autocast():
        logits = progress.joined(x_adv)
        loss = cross_entropy(logits, y).mean()
    # Shares may differ in size, so the average over processes needs this weight. For one process it is exactly 1.
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
    """Train the job from the first step, or from `checkpoint` if that file exists, to the last step.

    The result is a function of (job, images, recipe). The job's seed and the step seed every random draw, so an
    interruption changes nothing. The result is the last iterate. Training uses no test image and selects nothing. A log
    row averages the steps since the previous row. Its `loss` and `accuracy` are those of the training batches, which
    are perturbed if eps > 0. `hardware` is a setting of `hardware.choose`, `n_decoders` one of
    `ImageSet.training_batches`.

    If `world` is several processes, each of them calls this function and returns the same model. Up to rounding, it is
    the model of one process. Only the first process reads and writes `checkpoint`. Raises FloatingPointError if the
    loss is not finite.
    """
    n_total = n_steps(recipe, job.n_train)
    chosen = choose(hardware, local_rank=world.local_rank, n_processes=world.size)
    progress = _resume(job, recipe, world.read(checkpoint), chosen, world)
    on_step(progress.step)
    rows: list[dict] = []
    for x, y in _batches(images, range(progress.step, n_total), job, recipe, world, n_decoders):
        rows.append(train_step(progress, chosen.images(x), y.to(chosen.device), job, recipe))
        on_step(1)
        if progress.step % log_every == 0 or progress.step == n_total:
            means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
            epoch = progress.step * recipe.batch_size / job.n_train
            progress.log.append({**job.columns(), "step": progress.step, "epoch": epoch, **means})
            rows = []
            if progress.step % checkpoint_every == 0 and progress.step < n_total and world.rank == 0:
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
    model = nets.build(recipe.arch, mean=recipe.mean, std=recipe.std, seed=job.seed, n_classes=recipe.n_classes)
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
