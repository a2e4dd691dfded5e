"""Measure standard and robust accuracy of any model, example by example, and check the attack."""

from dataclasses import dataclass

from torch import Tensor, nn

from robacc.attack.adversary import smallest_fooling_eps
from robacc.attack.diagnostics import check_attack, check_masking, check_model
from robacc.nets.model import predict
from robacc.params import Attack


@dataclass(frozen=True)
class Outcomes:
    """The predictions for all N examples, and the attack's result for the first n of them.

    `y` and `predicted` are [N]. `fooling_eps` [n] is the result of `smallest_fooling_eps` for `norm` and `eps_grid`.
    """

    y: Tensor
    predicted: Tensor
    norm: str
    eps_grid: list[float]
    fooling_eps: Tensor

    def counts(self) -> list[dict]:
        """Return one row for standard accuracy (N examples), and one for robust accuracy (n examples) at each eps."""
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
        """Return the outcomes of all examples as named tensors, to be written to a file."""
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
    """Return the outcomes of all examples, and the measures of the checks.

    `x` is float [N, ...] in [0, 1], `y` is [N]. `model` is any module in evaluation mode that returns logits [N, K].
    The first `n_robust` examples are attacked. Before that, model and attack are checked on the first `n_checked`
    examples (see `diagnostics`). The check of gradient masking uses the middle eps of the grid. `other` is a model
    trained with another seed; it adds the check that transferred attacks are not stronger.

    | raises | if |
    |---|---|
    | TypeError or ValueError | no attack can use the model or the images |
    | AssertionError | a check of the attack fails, for example on gradient masking |
    | FloatingPointError | the model returns NaN during the attack |
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
