"""Attack a model for evaluation: PGD that keeps its best iterate, restarts, a search, and a descending grid of eps.

Training does not import this module. So a change here retrains no model.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from robacc.attack.answers import answers, check_numbers, guarded, margin, wrong_logits
from robacc.attack.inputs import ascending, check_eps, check_images, whole_labels
from robacc.attack.norms import Threat, threat_model
from robacc.attack.pgd import feasible, input_gradient, random_start
from robacc.attack.square import square
from robacc.nets.model import chunks, frozen
from robacc.params import Attack
from robacc.seeding import generator

STEP_FROM_START = 0.25  # share of eps, of the first step from an adversarial example of a larger ball
SEARCHED = 0.85  # share of the way to being fooled, from which on the search is worth its queries


def smooth_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the log-sum-exp of the wrong logits minus the true logit, [B], which the evaluation attack maximises.

    It is the log odds of an error. The cross-entropy is log(1 + exp(smooth margin)), so its gradient has the same
    direction. Unlike it, the smooth margin neither underflows nor overflows.
    """
    return wrong_logits(logits, y).logsumexp(1) - logits.gather(1, y[:, None])[:, 0]


def strongest(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    start: Tensor,
    n_steps: int,
    step_size: float,
    first_radius: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Return PGD's iterate in the ball with the largest margin, and that margin: [B, ...], [B].

    `start` is in the ball, and counts as an iterate. A fooled example is removed from the batch, which saves time. The
    step size falls linearly from `step_size` to 0. The ball's radius falls linearly from `first_radius` * eps to eps,
    which it reaches after half of the steps. Iterates outside the ball itself do not count. A larger ball first
    passes maxima from which no step inside the ball leads away. Raises FloatingPointError for NaN logits.
    """
    model = guarded(model)
    best, best_margin = start.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
    active = torch.arange(len(x), device=x.device)
    x_adv, inside = start, True
    with frozen(model):
        for step in range(n_steps + 1):
            if step < n_steps:
                grad, logits = input_gradient(model, x_adv, y, smooth_margin)
            else:
                with torch.no_grad():
                    logits = model(x_adv)
            found = margin(logits, y)
            check_numbers(found)
            if inside:
                better = found > best_margin[active]
                best[active[better]], best_margin[active[better]] = x_adv[better], found[better]
            if step == n_steps:
                break
            fooled = best_margin[active] >= 0
            if fooled.any():
                active, x, y, x_adv, grad = (tensor[~fooled] for tensor in (active, x, y, x_adv, grad))
                if not len(active):
                    break
            radius = threat.eps * max(1.0, first_radius - (first_radius - 1) * 2 * step / n_steps)
            x_adv = x_adv + threat.step(grad, step_size * (1 - step / n_steps))
            x_adv = feasible(x_adv, x, replace(threat, eps=radius))
            inside = radius == threat.eps
    return best, best_margin


def near(best: Tensor, clean: Tensor, share: float) -> Tensor:
    """Return which examples are not fooled, but were brought at least `share` of the way to it, bool [N].

    `clean` is the margin of each image, and `best` that of its best adversarial example, [N]. The way goes from `clean`
    to 0. A share of it does not depend on the scale of the logits.
    """
    return (best < 0) & (best >= (share - 1) * clean.abs())


def attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    settings: Attack,
    *,
    seed: int,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the strongest adversarial examples found, [N, ...], and whether each fools the model, bool [N].

    Three parts follow each other. Each attacks only what no earlier one fooled.

    | part | which examples | how |
    |---|---|---|
    | a quick run | all | `quick_steps` in the ball, from a random start, or in small steps from `start` |
    | restarts | those `near` being fooled, by a share for each restart | `n_steps` in a ball that shrinks |
    | a search | the nearest | local Square Attack, `n_queries` of the norm, which finds what a gradient hides |

    `start` [N, ...] is projected onto the ball. Each chunk of examples has its own seeded random starts. With eps = 0
    the result is `x` bit for bit. `x` may be empty. Labels are whole numbers of any width. Before the attack it raises
    the errors of `check_images`, `whole_labels`, `check_eps` and `answers`, afterwards those of `strongest`.
    """
    check_images(x)
    y = whole_labels(y, len(x))
    check_eps(threat.norm, threat.eps, x)
    model, x = guarded(model), x.detach()
    _, margins_of_images = answers(model, x, y)
    begin = () if start is None else (start,)
    parts = [
        _attack_chunk(model, *chunk, threat=threat, settings=settings, seed=seed, index=index)
        for index, chunk in enumerate(chunks(x, y, margins_of_images, *begin))
    ]
    best, best_margin = (torch.cat(values) for values in zip(*parts, strict=True))
    # Near misses are few, and a query costs little more for many images than for one. So all are searched together.
    who = near(best_margin, margins_of_images, SEARCHED).nonzero()[:, 0]
    if len(who) and (n_queries := settings.n_queries[threat.norm]):
        searched = [
            square(model, x, y, threat, start=start, n_queries=n_queries, generator=draws, local=True)
            for index, (x, y, start) in enumerate(chunks(x[who], y[who], best[who]))
            for draws in [generator(seed, "search", index)]
        ]
        best[who], best_margin[who] = (torch.cat(values) for values in zip(*searched, strict=True))
    return best, best_margin >= 0


def _attack_chunk(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    clean: Tensor,
    start: Tensor | None = None,
    *,
    threat: Threat,
    settings: Attack,
    seed: int,
    index: int,
) -> tuple[Tensor, Tensor]:
    """Return the result of the first two parts of `attack`: the best examples, and their margins."""
    best, best_margin = x.clone(), clean.clone()

    def keep(who: Tensor, x_adv: Tensor, margins: Tensor) -> None:
        better = margins > best_margin[who]
        best[who[better]], best_margin[who[better]] = x_adv[better], margins[better]

    def run(who: Tensor, start: Tensor, n_steps: int, step_size: float, first_radius: float = 1.0) -> None:
        if not len(who):  # some layers take no empty batch
            return
        size, args = step_size * threat.eps, (model, x[who], y[who], threat)
        keep(who, *strongest(*args, start=start[who], n_steps=n_steps, step_size=size, first_radius=first_radius))

    def random(restart: int) -> Tensor:
        return random_start(x, threat, generator(seed, "attack", restart, index))

    who = (best_margin < 0).nonzero()[:, 0]
    if start is None:
        run(who, random(0), settings.quick_steps, settings.step_size)
    else:
        run(who, feasible(start, x, threat), settings.quick_steps, STEP_FROM_START)
    for restart, share in enumerate(settings.restarts, 1):
        who = near(best_margin, clean, share).nonzero()[:, 0]
        run(who, random(restart), settings.n_steps, settings.step_size, settings.first_radius)
    return best, best_margin


def smallest_fooling_eps(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> Tensor:
    """Return for each example the smallest eps of the grid that fools the model, [N].

    The value is 0 where the clean image is misclassified, and infinity where no attack succeeds. A tie at the top is an
    error, on a clean image and on an attacked one. The grid is attacked from the largest eps to the smallest. An
    example that was fooled at one eps is attacked at the next smaller eps, from its adversarial example at the larger
    one. After the projection that often still fools. An example that was not fooled is skipped at smaller eps, because
    the smaller ball is inside the larger one.

    Robust accuracy at eps is the share of values above eps. So it never rises with eps, and never exceeds standard
    accuracy. Raises the errors of `attack`, and those of `ascending` for the grid.
    """
    check_images(x)
    y, eps_grid = whole_labels(y, len(x)), ascending(norm, eps_grid, x)
    model, x = guarded(model), x.detach()
    outcome = torch.where(answers(model, x, y)[1] < 0, torch.inf, 0.0)
    still_fooled, x_adv = (outcome > 0).nonzero()[:, 0], None
    for eps in reversed(eps_grid):
        if not len(still_fooled):
            break
        images, labels = x[still_fooled], y[still_fooled]
        x_adv, fooled = attack(model, images, labels, threat_model(norm, eps), settings, seed=seed, start=x_adv)
        still_fooled, x_adv = still_fooled[fooled], x_adv[fooled]
        outcome[still_fooled] = eps
    return outcome
