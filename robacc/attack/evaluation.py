"""Measure standard and robust accuracy of any model, example by example, and check the attack."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attack.adversary import smallest_fooling_eps
from robacc.attack.answers import answers, guarded
from robacc.attack.diagnostics import check_attack, check_masking, check_model
from robacc.attack.inputs import ascending, check_images, whole_labels
from robacc.params import Attack


@dataclass(frozen=True)
class Outcomes:
    """The predictions for all N examples, and the attack's result for the first n of them.

    `y` and `predicted` are [N], int64. At a tie of the true class with others, `predicted` is one of the others: a tie
    at the top counts as an error. `fooling_eps` [n] is the result of `smallest_fooling_eps` for `norm` and `eps_grid`.
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
        attacked = {f"{self.norm}-fooling-eps": self.fooling_eps} if self.eps_grid else {}
        return {"correct": self.predicted == self.y, "predicted": self.predicted, **attacked}


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

    `x` is float [N, ...] in [0, 1], `y` is [N], whole numbers of any width. Neither is changed, also by a model that
    changes its input in place. `model` is any module in evaluation mode that returns logits [N, K], K >= 2. A tie at
    the top counts as an error, on images and on adversarial examples.

    First all images, labels and eps are checked, and `model` answers all images. Then model and attack are checked on
    the first `n_checked` examples (see `diagnostics`), for gradient masking at the middle eps of the grid. `other` is a
    model trained with another seed; it adds the check of transferred attacks. Last, the first `n_robust` are attacked.

    | raises | if |
    |---|---|
    | TypeError or ValueError, before any attack | no attack can use model, images, labels, grid or `settings` |
    | FloatingPointError | the model returns NaN, for an image before any attack, or during the attack |
    | AssertionError | a check of the attack fails, for example on gradient masking |
    """
    check_images(x)
    y, eps_grid = whole_labels(y, len(x)), ascending(norm, eps_grid, x)
    settings = _checked(settings, n_robust=n_robust, n_checked=n_checked)
    x_checked, y_checked = x[:n_checked], y[:n_checked]
    for each in (model, other):
        if each is not None:
            check_model(each, x_checked, y_checked)
    model, other = guarded(model), guarded(other) if other is not None else None
    predicted, _ = answers(model, x, y)
    middle = eps_grid[(len(eps_grid) - 1) // 2]
    ends = sorted({middle, eps_grid[-1]})
    checks, fooled = check_attack(model, x_checked, y_checked, norm, ends, settings, seed=seed)
    masking = check_masking(
        model, x_checked, y_checked, norm, middle, settings, fooled=fooled[0], seed=seed, other=other
    )
    fooling = smallest_fooling_eps(model, x[:n_robust], y[:n_robust], norm, eps_grid, settings, seed=seed)
    renamed = {f"masking_{name}": value for name, value in masking.items()}
    return Outcomes(y, predicted, norm, eps_grid, fooling), {**checks, **renamed}


def standard(model: nn.Module, x: Tensor, y: Tensor, *, n_checked: int) -> Outcomes:
    """Return the outcomes of all examples without an attack, as `evaluate` has them.

    The arguments are those of `evaluate`. Raises its errors of model, images and labels.
    """
    check_images(x)
    y = whole_labels(y, len(x))
    check_model(model, x[:n_checked], y[:n_checked])
    predicted, _ = answers(guarded(model), x, y)
    return Outcomes(y, predicted, "", [], torch.empty(0))


def _checked(settings: Attack, **counts: int) -> Attack:
    """Return `settings`, checked again: `model_copy` and `model_construct` check nothing."""
    for name, n in counts.items():
        if n < 1:
            raise ValueError(f"expected {name} of at least 1, got {n}; it is a number of images")
    if not isinstance(settings, Attack):
        raise TypeError(f"expected settings to be an Attack, got {type(settings).__name__}; use Attack.standard()")
    return Attack(**dict(settings))
