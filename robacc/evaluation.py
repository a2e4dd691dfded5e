"""Standard and robust accuracy, with the outcome of every example and checks of the attack itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.adversary import Attack, attack, smallest_fooling_eps
from robacc.models import predict
from robacc.norms import ball

# Float rounding of x + delta, measured in float64: absolute in linf, relative to eps in l2.
LINF_TOLERANCE, L2_TOLERANCE = 1e-6, 1e-5


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
            {
                "norm": self.norm,
                "eps": eps,
                "n": len(self.fooling_eps),
                "n_correct": int((self.fooling_eps > eps).sum()),
            }
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


def _require(condition: Tensor | bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


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
        where = f"at {norm} eps {eps}"
        _require(x_adv.isfinite().all(), f"adversarial examples {where} are not finite")
        _require(x_adv.min() >= 0 and x_adv.max() <= 1, f"adversarial examples {where} leave [0, 1]")
        excess = (threat.size(x_adv.double() - x.double()).max() - eps).item()
        tolerance = LINF_TOLERANCE if norm == "linf" else L2_TOLERANCE * eps
        _require(excess <= tolerance, f"adversarial examples {where} exceed the ball by {excess}")
        largest_excess = max(largest_excess, excess)
        _require(torch.equal(predict(model, x_adv) != y, fooled), f"success {where} is not what the model says")
        _require(eps > 0 or torch.equal(x_adv, x), "the attack with eps 0 changes the images")
        accuracies.append((~fooled).double().mean().item())
    _require(accuracies == sorted(accuracies, reverse=True), f"robust accuracy rises with eps: {accuracies}")
    return {"n": len(x), "largest_excess": largest_excess, "std_acc": accuracies[0], "rob_acc": accuracies[-1]}
