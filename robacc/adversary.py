"""The adversary of evaluation: PGD that keeps what it found, restarts, and a walk down the grid of eps.

Apart from `attacks`, so that a stronger evaluation never trains a model again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attacks import Loss, check_input, cross_entropy, feasible, input_gradient, random_start
from robacc.models import CHUNK, eval_mode, frozen, predict
from robacc.norms import Ball, ball
from robacc.seeding import generator


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the best wrong logit minus the true one, [B] (Carlini & Wagner 2017).

    Positive exactly where the example is misclassified, and blind to the scale of the logits,
    where the cross-entropy's gradient underflows to zero for very confident models.
    """
    true = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return (others.amax(1, keepdim=True) - true)[:, 0]


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin}


def strongest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    start: Tensor,
    n_steps: int,
    step_size: float,
    loss: Loss,
    last_step_size: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the iterate of PGD that fools the model most, and its margin: [B, ...], [B].

    This is the adversary of evaluation. "Most" is the margin, positive where the model is wrong:
    a success beats every failure, and what was once found is kept. A point that is fooled leaves
    the batch, so an attack that succeeds early costs little. `start` counts as an iterate. The steps
    change linearly from `step_size` to `last_step_size`, or keep their size without it.
    Raises FloatingPointError if the model answers NaN, which would otherwise pass for robust.
    """
    best, best_margin = start.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
    active = torch.arange(len(x), device=x.device)
    x_adv = start
    change = (last_step_size - step_size) / n_steps if last_step_size is not None else 0.0
    with frozen(model):
        for step in range(n_steps + 1):
            if step < n_steps:
                grad, logits = input_gradient(model, x_adv, y, loss)
            else:
                with torch.no_grad():
                    logits = model(x_adv)
            found = margin(logits, y)
            if found.isnan().any():
                raise FloatingPointError("the model's logits are NaN; no accuracy can be measured")
            better = found > best_margin[active]
            best[active[better]], best_margin[active[better]] = x_adv[better], found[better]
            if step == n_steps:
                break
            fooled = found > 0
            if fooled.any():  # they leave the batch
                active, x, y, x_adv, grad = (tensor[~fooled] for tensor in (active, x, y, x_adv, grad))
                if not len(active):
                    break
            x_adv = feasible(x_adv + ball.step(grad, step_size + step * change), x, ball)
    return best, best_margin


@dataclass(frozen=True)
class Attack:
    """The evaluation attack: PGD with `n_steps` from each of `losses`' starts.

    Start k maximises `losses[k]`: "cross_entropy" as in the paper, "margin" against a model whose
    cross-entropy gradient vanishes. Steps are `step_size` * eps, or shrink linearly from there to
    `last_step_size` * eps, after Croce & Hein 2020: a first step as long as eps fools most examples at
    once, and in l2 on images full of 0 and 1 the box swallows most of a small one. Once every loss had a
    start, an example is left that none brought the share `give_up_below` of the way from its own margin
    to a wrong answer: a share, so that the scale of the logits does not matter.
    """

    n_steps: int
    step_size: float
    losses: list[str]
    last_step_size: float | None = None
    give_up_below: float | None = None

    def hopeless(self, start: int, clean: Tensor, best: Tensor) -> Tensor:
        """Return which examples start number `start` leaves, [B], by the margins of image and best point, [B]."""
        if self.give_up_below is None or not set(self.losses) <= set(self.losses[:start]):
            return torch.zeros_like(best, dtype=torch.bool)
        return best < (self.give_up_below - 1) * clean.abs()


def attack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Ball, settings: Attack, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the strongest adversarial examples found [N, ...], and whether each fools the model [N].

    Later restarts only see examples that no earlier one has fooled, nor given up. With eps = 0 the examples
    are `x` itself, bit for bit. Every chunk of examples has its own seeded starts.
    """
    check_input(x)
    last = None if settings.last_step_size is None else settings.last_step_size * threat.eps
    found, fooled = [], []
    for index, (x_part, y_part) in enumerate(zip(x.split(CHUNK), y.split(CHUNK), strict=True)):
        best, best_margin = x_part.clone(), torch.full_like(y_part, -torch.inf, dtype=x.dtype)
        with eval_mode(model), torch.no_grad():
            clean = margin(model(x_part), y_part)
        for restart, loss in enumerate(settings.losses):
            start = random_start(x_part, threat, generator(seed, "attack", restart, index))
            left = ((best_margin <= 0) & ~settings.hopeless(restart, clean, best_margin)).nonzero()[:, 0]
            if not len(left):
                break
            x_adv, margins = strongest(
                model,
                x_part[left],
                y_part[left],
                threat,
                start=start[left],
                n_steps=settings.n_steps,
                step_size=settings.step_size * threat.eps,
                last_step_size=last,
                loss=LOSSES[loss],
            )
            better = margins > best_margin[left]
            best[left[better]], best_margin[left[better]] = x_adv[better], margins[better]
        found.append(best)
        fooled.append(best_margin > 0)
    return torch.cat(found), torch.cat(fooled)


def shorter_attack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Ball, start: Tensor, settings: Attack
) -> tuple[Tensor, Tensor]:
    """Return what `attack` returns for PGD from `start`, pulled into the ball: a quarter of the steps, shrinking.

    `start` fools the model in a larger ball, and often still does when pulled into the smaller one.
    """
    found, fooled = [], []
    for x_part, y_part, start_part in zip(x.split(CHUNK), y.split(CHUNK), start.split(CHUNK), strict=True):
        best, margins = strongest(
            model,
            x_part,
            y_part,
            threat,
            start=feasible(start_part, x_part, threat),
            n_steps=-(-settings.n_steps // 4),
            step_size=0.25 * threat.eps,
            last_step_size=0.0,
            loss=LOSSES[settings.losses[-1]],
        )
        found.append(best)
        fooled.append(margins > 0)
    return torch.cat(found), torch.cat(fooled)


def smallest_fooling_eps(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> Tensor:
    """Return for each example the smallest eps of the grid that fools the model, [N].

    0 where the clean image is misclassified, infinity where no attack of the grid succeeds. The grid is walked
    downwards and what was found is carried on: an example fooled in the larger ball first meets `shorter_attack`
    from the point that fooled it there, then, if that fails, the full `attack`. An example that was not fooled
    meets no smaller ball, which lies inside the larger. Robust accuracy at eps is the share of values above eps,
    so it can only fall with eps and is never above standard accuracy.
    """
    outcome = torch.where(predict(model, x) == y, torch.inf, 0.0)
    best = x.clone()  # for each example of `walking` the point that fooled the model in the larger ball
    walking = (outcome > 0).nonzero()[:, 0]
    for index, eps in enumerate(sorted(eps_grid, reverse=True)):
        threat, left = ball(norm, eps), walking
        if index and len(left):
            best[left], fooled = shorter_attack(model, x[left], y[left], threat, best[left], settings)
            outcome[left[fooled]] = eps
            left = left[~fooled]
        if len(left):
            best[left], fooled = attack(model, x[left], y[left], threat, settings, seed=seed)
            outcome[left[fooled]] = eps
        walking = walking[outcome[walking] == eps]
    return outcome
