"""Standard and robust accuracy of any model, with the outcome of every example and checks of the attack itself."""

from dataclasses import dataclass

from torch import Tensor, nn

from robacc.adversary import Attack, smallest_fooling_eps
from robacc.diagnostics import check_attack, check_masking, check_model
from robacc.models import predict


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

    def arrays(self) -> dict[str, Tensor]:
        """Return every example's outcome by name, for a file."""
        correct = self.predicted == self.y
        return {"correct": correct, "predicted": self.predicted, f"{self.norm}-fooling-eps": self.fooling_eps}


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
    other: nn.Module | None = None,
) -> tuple[Outcomes, dict[str, float]]:
    """Return the outcomes of all examples, the first `n_robust` of them attacked, and the checks' measures.

    `x` float [N, ...] in [0, 1], `y` [N], `model` any module in evaluation mode that returns logits [N, K].
    The model and the attack are checked first, on the first `n_checked` examples (see `diagnostics`):
    TypeError or ValueError for a model or images that no attack can use, AssertionError when a check of
    the attack fails, among them those of gradient masking, made at the middle of the grid. `other`, a model
    trained on another seed, adds the check that attacks transferred from it are not the stronger ones.
    """
    eps_grid = sorted(eps_grid)
    x_checked, y_checked = x[:n_checked], y[:n_checked]
    check_model(model, x_checked, y_checked)
    middle = eps_grid[(len(eps_grid) - 1) // 2]
    ends = sorted({middle, eps_grid[-1]})
    checks, fooled = check_attack(model, x_checked, y_checked, norm, ends, settings, seed=seed)
    masking = check_masking(
        model, x_checked, y_checked, norm, middle, settings, fooled=fooled[0], seed=seed, other=other
    )
    fooling = smallest_fooling_eps(model, x[:n_robust], y[:n_robust], norm, eps_grid, settings, seed=seed)
    renamed = {f"masking_{name}": value for name, value in masking.items()}
    return Outcomes(y, predict(model, x), norm, eps_grid, fooling), {**checks, **renamed}
