"""The adversary of evaluation: PGD that keeps what it found, restarts, and a walk down the grid of eps.

Apart from `attacks`, so that a stronger evaluation never trains a model again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attacks import Loss, check_input, cross_entropy, feasible, input_gradient, random_start
from robacc.models import CHUNK, frozen, predict
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

    Restart k maximises `losses[k]`: "cross_entropy" as in the paper, "margin" against a model whose
    cross-entropy gradient vanishes. Steps are `step_size` * eps; from the second restart on, if
    `shrink_from` is given, they shrink linearly from that share of eps to 0, after Croce & Hein 2020:
    in l2 on images full of 0 and 1 the box swallows most of a small step.
    """

    n_steps: int
    step_size: float
    losses: list[str]
    shrink_from: float | None = None

    def steps(self, restart: int, eps: float) -> tuple[float, float]:
        """Return the first and the last step size of a restart."""
        if restart == 0 or self.shrink_from is None:
            return self.step_size * eps, self.step_size * eps
        return self.shrink_from * eps, 0.0


def attack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Ball, settings: Attack, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the strongest adversarial examples found [N, ...], and whether each fools the model [N].

    Later restarts only see examples that no earlier one has fooled. With eps = 0 the examples are
    `x` itself, bit for bit. Every chunk of examples has its own seeded starts.
    """
    check_input(x)
    found, fooled = [], []
    for index, (x_part, y_part) in enumerate(zip(x.split(CHUNK), y.split(CHUNK), strict=True)):
        best, best_margin = x_part.clone(), torch.full_like(y_part, -torch.inf, dtype=x.dtype)
        for restart, loss in enumerate(settings.losses):
            start = random_start(x_part, threat, generator(seed, "attack", restart, index))
            first, last = settings.steps(restart, threat.eps)
            left = (best_margin <= 0).nonzero()[:, 0]
            if not len(left):
                break
            x_adv, margins = strongest(
                model,
                x_part[left],
                y_part[left],
                threat,
                start=start[left],
                n_steps=settings.n_steps,
                step_size=first,
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

    `start` is the strongest point found in a larger ball: where that ball fooled the model, it often still does
    when pulled into the smaller one; where it did not, the smaller ball holds nothing, unless it was searched badly.
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
    downwards and what was found is carried on: every example first meets `shorter_attack` from its strongest point
    of the larger ball. What that does not fool meets the full `attack`, but for an example that no attack fooled in
    the larger ball, as the smaller one lies inside it. Robust accuracy at eps is the share of values above eps,
    so it can only fall with eps and is never above standard accuracy.
    """
    outcome = torch.where(predict(model, x) == y, torch.inf, 0.0)
    promising, best = outcome > 0, x.clone()  # fooled so far; the strongest point found in a larger ball
    for index, eps in enumerate(sorted(eps_grid, reverse=True)):
        threat = ball(norm, eps)
        right = (outcome > 0).nonzero()[:, 0] if index else outcome.new_empty(0, dtype=torch.long)
        if len(right):
            best[right], fooled = shorter_attack(model, x[right], y[right], threat, best[right], settings)
            outcome[right[fooled]] = eps
            promising[right[fooled]] = True
        left = (promising & (outcome > eps)).nonzero()[:, 0]
        if len(left):
            best[left], fooled = attack(model, x[left], y[left], threat, settings, seed=seed)
            outcome[left[fooled]] = eps
            promising[left[~fooled]] = False
    return outcome
