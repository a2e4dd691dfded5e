"""Attack a model for evaluation: PGD that keeps its best iterate, restarts, and a descending grid of eps.

Training does not import this module. So a change here retrains no model.
"""

import torch
from torch import Tensor, nn

from robacc.attack.answers import answers, check_numbers, guarded, margin
from robacc.attack.inputs import ascending, check_eps, check_images, whole_labels
from robacc.attack.norms import Threat, threat_model
from robacc.attack.pgd import Loss, cross_entropy, feasible, input_gradient, random_start
from robacc.nets.model import CHUNK, frozen
from robacc.params import Attack
from robacc.seeding import generator

LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin}


def check_losses(settings: Attack) -> None:
    """Raise ValueError unless `settings` has losses, all of them in `LOSSES`.

    An `Attack` that was built without its checks may have others.
    """
    if not settings.losses or not set(settings.losses) <= set(LOSSES):
        raise ValueError(f"expected losses of the attack from {', '.join(LOSSES)}, at least one, got {settings.losses}")


def strongest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    start: Tensor,
    n_steps: int,
    step_size: float,
    last_step_size: float,
    loss: Loss,
) -> tuple[Tensor, Tensor]:
    """Return PGD's iterate with the largest margin, and that margin: [B, ...], [B].

    This is the adversary of evaluation. A margin of 0 or more means that the model is fooled. `start` counts as an
    iterate. A fooled example is removed from the batch, which saves time. The step size changes linearly from
    `step_size` towards `last_step_size`. Raises FloatingPointError for NaN logits.
    """
    model = guarded(model)
    best, best_margin = start.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
    active = torch.arange(len(x), device=x.device)
    x_adv = start
    change = (last_step_size - step_size) / n_steps
    with frozen(model):
        for step in range(n_steps + 1):
            if step < n_steps:
                grad, logits = input_gradient(model, x_adv, y, loss)
            else:
                with torch.no_grad():
                    logits = model(x_adv)
            found = margin(logits, y)
            check_numbers(found)
            better = found > best_margin[active]
            best[active[better]], best_margin[active[better]] = x_adv[better], found[better]
            if step == n_steps:
                break
            fooled = found >= 0
            if fooled.any():
                active, x, y, x_adv, grad = (tensor[~fooled] for tensor in (active, x, y, x_adv, grad))
                if not len(active):
                    break
            x_adv = feasible(x_adv + threat.step(grad, step_size + step * change), x, threat)
    return best, best_margin


def skipped(settings: Attack, start: int, clean: Tensor, best: Tensor) -> Tensor:
    """Return which examples restart number `start` skips, bool [B].

    `clean` is the margin of each image, and `best` that of its best adversarial example so far, [B]. No example is
    skipped until every loss in `settings.losses` has had one restart. After that, an example is skipped if its margin
    has risen too little. The limit is the share `skip_below` of the distance from `clean` to 0. A share does not
    depend on the scale of the logits.
    """
    if settings.skip_below is None or not set(settings.losses) <= set(settings.losses[:start]):
        return torch.zeros_like(best, dtype=torch.bool)
    return best < (settings.skip_below - 1) * clean.abs()


def attack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, settings: Attack, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the strongest adversarial examples found, [N, ...], and whether each fools the model, bool [N].

    Each entry of `settings.losses` is one restart. A restart attacks the examples that no earlier restart fooled,
    except those that `skipped` skips. Each chunk of examples has its own seeded random starts. With eps = 0 the result
    is `x` bit for bit. `x` may be empty. Labels are whole numbers of any width. Before the attack it raises the errors
    of `check_images`, `whole_labels`, `check_eps`, `check_losses` and `answers`, afterwards those of `strongest`.
    """
    check_images(x)
    y = whole_labels(y, len(x))
    check_eps(threat.norm, threat.eps, x)
    check_losses(settings)
    model, x = guarded(model), x.detach()
    _, margins_of_images = answers(model, x, y)
    found, fooled = [], []
    chunks = zip(x.split(CHUNK), y.split(CHUNK), margins_of_images.split(CHUNK), strict=True)
    for index, (x_part, y_part, clean) in enumerate(chunks):
        best, best_margin = x_part.clone(), torch.full_like(y_part, -torch.inf, dtype=x.dtype)
        for restart, loss in enumerate(settings.losses):
            start = random_start(x_part, threat, generator(seed, "attack", restart, index))
            remaining = ((best_margin < 0) & ~skipped(settings, restart, clean, best_margin)).nonzero()[:, 0]
            if not len(remaining):
                break
            x_adv, margins = strongest(
                model,
                x_part[remaining],
                y_part[remaining],
                threat,
                start=start[remaining],
                n_steps=settings.n_steps,
                step_size=settings.step_size * threat.eps,
                last_step_size=settings.last_step_size * threat.eps,
                loss=LOSSES[loss],
            )
            better = margins > best_margin[remaining]
            best[remaining[better]], best_margin[remaining[better]] = x_adv[better], margins[better]
        found.append(best)
        fooled.append(best_margin >= 0)
    return torch.cat(found), torch.cat(fooled)


def shorter_attack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, start: Tensor, settings: Attack
) -> tuple[Tensor, Tensor]:
    """Return what `attack` returns, for one short run of PGD from `start` projected onto the ball.

    `start` fools the model in a larger ball. After the projection it often still does. The run has a quarter of
    `n_steps`. Its step size falls linearly from eps / 4 to 0.
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
        fooled.append(margins >= 0)
    return torch.cat(found), torch.cat(fooled)


def smallest_fooling_eps(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> Tensor:
    """Return for each example the smallest eps of the grid that fools the model, [N].

    The value is 0 where the clean image is misclassified, and infinity where no attack succeeds. A tie at the top is an
    error, on a clean image and on an attacked one. The grid is attacked from the largest eps to the smallest. An
    example that was fooled at one eps is attacked at the next smaller eps. `shorter_attack` runs first, from the
    adversarial example at the larger eps. If it fails, the full `attack` runs. An example that was not fooled is
    skipped at smaller eps, because the smaller ball is inside the larger one.

    Robust accuracy at eps is the share of values above eps. So it never rises with eps, and never exceeds standard
    accuracy. Raises the errors of `attack`, and those of `ascending` for the grid.
    """
    check_images(x)
    y, eps_grid = whole_labels(y, len(x)), ascending(norm, eps_grid, x)
    check_losses(settings)
    model, x = guarded(model), x.detach()
    outcome = torch.where(answers(model, x, y)[1] < 0, torch.inf, 0.0)
    best = x.clone()  # for each example of `still_fooled` its adversarial example at the last larger eps
    still_fooled = (outcome > 0).nonzero()[:, 0]
    for index, eps in enumerate(reversed(eps_grid)):
        threat, remaining = threat_model(norm, eps), still_fooled
        if index and len(remaining):
            start = best[remaining]
            best[remaining], fooled = shorter_attack(model, x[remaining], y[remaining], threat, start, settings)
            outcome[remaining[fooled]] = eps
            remaining = remaining[~fooled]
        if len(remaining):
            best[remaining], fooled = attack(model, x[remaining], y[remaining], threat, settings, seed=seed)
            outcome[remaining[fooled]] = eps
        still_fooled = still_fooled[outcome[still_fooled] == eps]
    return outcome
