"""Standard and robust accuracy, with the outcome of every example and checks of the attack itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attacks import LOSSES, check_input, random_start, strongest
from robacc.models import eval_mode
from robacc.norms import Ball, ball
from robacc.seeding import generator

CHUNK = 500  # examples at a time: bounds the memory, and does not change any result

# Float rounding of x + delta, measured in float64: absolute in linf, relative to eps in l2.
LINF_TOLERANCE, L2_TOLERANCE = 1e-6, 1e-5


@dataclass(frozen=True)
class Attack:
    """The evaluation attack: PGD with `n_steps` of `step_size` * eps from each of `losses`' starts.

    Restart k maximises `losses[k]`: "cross_entropy" as in the paper, "margin" against a model whose
    cross-entropy gradient vanishes.
    """

    n_steps: int
    step_size: float
    losses: list[str]


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted labels [N] of `x` [N, ...]."""
    with eval_mode(model), torch.no_grad():
        return torch.cat([model(chunk).argmax(1) for chunk in x.split(CHUNK)])


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
        best, success = x_part.clone(), torch.zeros(len(x_part), dtype=torch.bool)
        for restart, loss in enumerate(settings.losses):
            start = random_start(x_part, threat, generator(seed, "attack", restart, index))
            left = (~success).nonzero()[:, 0]
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
                loss=LOSSES[loss],
            )
            best[left], success[left] = x_adv, margins > 0
        found.append(best)
        fooled.append(success)
    return torch.cat(found), torch.cat(fooled)


def smallest_fooling_eps(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> Tensor:
    """Return for each example the smallest eps of the grid that fools the model, [N].

    0 where the clean image is misclassified, infinity where no attack of the grid succeeds. The
    grid is walked upwards and a fooled example is carried on: what fools within eps fools within
    any larger eps. Robust accuracy at eps is the share of values above eps, so it can only fall
    with eps and is never above standard accuracy.
    """
    outcome = torch.where(predict(model, x) == y, torch.inf, 0.0)
    for eps in sorted(eps_grid):
        left = outcome.isinf().nonzero()[:, 0]
        if len(left):
            _, fooled = attack(model, x[left], y[left], ball(norm, eps), settings, seed=seed)
            outcome[left[fooled]] = eps
    return outcome


@dataclass(frozen=True)
class Outcomes:
    """What happened to every example: all `y` and predictions [N], and for the first n the attack's result.

    `fooling_eps` [n] is as `smallest_fooling_eps` gives it, for the balls of `norm` with `eps_grid`.
    """

    y: Tensor
    predicted: Tensor
    norm: str
    eps_grid: list[float]
    fooling_eps: Tensor

    def counts(self) -> list[dict]:
        """Return a row for standard accuracy on all N and for robust accuracy at each eps on n examples."""
        standard = {"norm": "", "eps": 0.0, "n": len(self.y), "n_correct": int((self.predicted == self.y).sum())}
        robust = [
            {"norm": self.norm, "eps": eps, "n": len(self.fooling_eps), "n_correct": int((self.fooling_eps > eps).sum())}
            for eps in self.eps_grid
        ]
        return [standard, *robust]


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: str,
    eps_grid: list[float],
    settings: Attack,
    *,
    n_robust: int,
    n_checked: int,
    seed: int,
) -> tuple[Outcomes, dict[str, float]]:
    """Return the outcomes of all examples, the first `n_robust` of them attacked, and the checks' measures.

    `x` float [N, ...] in [0, 1], `y` [N]. Raises AssertionError when the attack fails one of its
    checks, made on the first `n_checked` examples (see `check_attack`).
    """
    eps_grid = sorted(eps_grid)
    checks = check_attack(model, x[:n_checked], y[:n_checked], norm, eps_grid, settings, seed=seed)
    fooling = smallest_fooling_eps(model, x[:n_robust], y[:n_robust], norm, eps_grid, settings, seed=seed)
    return Outcomes(y, predict(model, x), norm, eps_grid, fooling), checks


def check_attack(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> dict[str, float]:
    """Attack `x` at eps 0 and the ends of the grid, each from nothing, and check what comes out.

    Raises AssertionError if an adversarial example leaves its ball or the box or is not finite, if
    eps = 0 changes an image, if the reported success is not what the model says about the
    examples, or if robust accuracy rises with eps. Returns what was measured.
    """
    accuracies = []
    largest_excess = -torch.inf
    for eps in sorted({0.0, eps_grid[0], eps_grid[-1]}):
        threat = ball(norm, eps)
        x_adv, fooled = attack(model, x, y, threat, settings, seed=seed)
        assert x_adv.isfinite().all(), f"adversarial examples at {norm} eps {eps} are not finite"
        assert x_adv.min() >= 0 and x_adv.max() <= 1, f"adversarial examples at {norm} eps {eps} leave [0, 1]"
        excess = (threat.size(x_adv.double() - x.double()).max() - eps).item()
        tolerance = LINF_TOLERANCE if norm == "linf" else L2_TOLERANCE * eps
        assert excess <= tolerance, f"adversarial examples exceed {norm} eps {eps} by {excess}"
        largest_excess = max(largest_excess, excess)
        assert torch.equal(predict(model, x_adv) != y, fooled), f"success at {norm} eps {eps} is not what the model says"
        if eps == 0:
            assert torch.equal(x_adv, x), "the attack with eps 0 changes the images"
        accuracies.append((~fooled).double().mean().item())
    assert accuracies == sorted(accuracies, reverse=True), f"robust accuracy rises with eps: {accuracies}"
    return {"n": len(x), "largest_excess": largest_excess, "std_acc": accuracies[0], "rob_acc": accuracies[-1]}
