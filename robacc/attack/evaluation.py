"""Measure standard and robust accuracy of any model, example by example, and check the attack."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attack.adversary import smallest_fooling_eps
from robacc.attack.answers import answers, guarded
from robacc.attack.diagnostics import check_attack, check_gradient, check_masking, check_model, one_class
from robacc.attack.inputs import ascending, check_images, check_integers, check_order, whole_labels
from robacc.images.sample import balanced_order
from robacc.images.sets import ImageSet
from robacc.params import Attack


@dataclass(frozen=True)
class Outcomes:
    """The predictions for all N examples, and the attack's result for a sample of n of them.

    `y` and `predicted` are [N], int64. At a tie of the true class with others, `predicted` is one of the others: a tie
    at the top counts as an error. `fooling_eps` [n] is the result of `smallest_fooling_eps` for `norm` and `eps_grid`,
    on the examples whose `indices` [n] it has beside it.
    """

    y: Tensor
    predicted: Tensor
    norm: str
    eps_grid: list[float]
    indices: Tensor
    fooling_eps: Tensor

    def counts(self) -> list[dict]:
        """Return two rows for standard accuracy, on all images and on the sample, then one at each eps on the sample.

        Without an attack there is the first row alone. The standard rows have the norm "none". Only rows of the same
        `images` have a gap that means something.
        """
        correct = self.predicted == self.y
        rows = [("all", "none", 0.0, correct)]
        rows += [("sample", "none", 0.0, correct[self.indices])] if self.eps_grid else []
        rows += [("sample", self.norm, eps, self.fooling_eps > eps) for eps in self.eps_grid]
        return [
            {"images": images, "norm": norm, "eps": eps, "n": len(right), "n_correct": int(right.sum())}
            for images, norm, eps, right in rows
        ]

    def arrays(self) -> dict[str, Tensor]:
        """Return the outcomes of all examples as named tensors, to be written to a file."""
        correct = self.predicted == self.y
        attacked = {"indices": self.indices, f"{self.norm}-fooling-eps": self.fooling_eps} if self.eps_grid else {}
        return {"correct": correct, "predicted": self.predicted, **attacked}


def evaluate(
    model: nn.Module,
    x: Tensor | ImageSet,
    y: Tensor,
    norm: str,
    eps_grid: list[float],
    settings: Attack,
    *,
    n_robust: int,
    n_checked: int,
    seed: int,
    order: Tensor | None = None,
    other: nn.Module | None = None,
) -> tuple[Outcomes, dict[str, float | str]]:
    """Return the outcomes of all examples, and the measures of the checks.

    `x` is float [N, ...] in [0, 1], or an image set. `y` is [N], whole numbers of any width. Neither is changed, also
    by a model that changes its input in place. `model` is any module in evaluation mode that returns logits [N, K],
    K >= 2. A tie at the top counts as an error, on images and on adversarial examples.

    First all images, labels and eps are checked, and `model` answers all images. Then model and attack are checked on
    `n_checked` examples (see `diagnostics`), for gradient masking at the middle eps of the grid. `other` is a model
    trained with another seed; it adds the check of transferred attacks. Last, `n_robust` examples are attacked. All
    these are the first of `order`, distinct indices. By default it is `balanced_order(y, seed=seed)`.

    A model that answers one class for nearly everything is measured, with a warning: `note` among the measures says
    so, and those of masking are left out. `one_class` is the share of the most frequent answer.

    | raises | if |
    |---|---|
    | TypeError or ValueError, before any attack | no attack can use model, images, labels, grid or `settings` |
    | FloatingPointError | the model returns NaN, for an image before any attack, or during the attack |
    | AssertionError | a check of the attack fails, for example on gradient masking |
    """
    _check(x)
    y, eps_grid = whole_labels(y, len(x)), ascending(norm, eps_grid, _at(x, slice(1)))
    settings = _checked(settings, seed, n_robust=n_robust, n_checked=n_checked)
    order = balanced_order(y, seed=seed) if order is None else check_order(order, len(y))
    x_checked, y_checked = _at(x, order[:n_checked]), y[order[:n_checked]]
    for each in [model] if other is None else [model, other]:
        check_model(each, x_checked, y_checked)
    model, other = guarded(model), guarded(other) if other is not None else None
    predicted, _ = answers(model, x, y)
    share, note = one_class(y, predicted)
    if note:
        warnings.warn(f"the model {note}; not checked for gradient masking", stacklevel=2)
    checks = _checks(model, x_checked, y_checked, norm, eps_grid, settings, seed=seed, other=other, masking=not note)
    indices = order[:n_robust]
    fooling = smallest_fooling_eps(model, _at(x, indices), y[indices], norm, eps_grid, settings, seed=seed)
    return Outcomes(y, predicted, norm, eps_grid, indices, fooling), {"one_class": share, "note": note, **checks}


def _check(x: Tensor | ImageSet) -> None:
    if not isinstance(x, ImageSet):  # whose images are bytes / 255
        check_images(x)


def _at(x: Tensor | ImageSet, which: Tensor | slice) -> Tensor:
    """Return the images `which` of `x`, as floats."""
    if isinstance(x, Tensor):
        return x[which]
    return x.batch(torch.arange(len(x))[which])[0]


def _checks(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: str,
    eps_grid: list[float],
    settings: Attack,
    *,
    seed: int,
    other: nn.Module | None,
    masking: bool,
) -> dict[str, float]:
    """Return the measures of the attack at the middle and the last eps, and those of `masking` at the middle."""
    middle = eps_grid[(len(eps_grid) - 1) // 2]
    ends = sorted({middle, eps_grid[-1]})
    if masking:  # first, because it names the cause of what the attack would only show
        check_gradient(model, x, y, norm, middle, seed=seed)
    measured, fooled = check_attack(model, x, y, norm, ends, settings, seed=seed)
    if not masking:
        return measured
    if other is not None and (note := one_class(y, answers(other, x, y)[0])[1]):
        warnings.warn(f"the other model {note}; no examples are transferred from it", stacklevel=3)
        other = None
    found = check_masking(model, x, y, norm, middle, settings, fooled=fooled[0], seed=seed, other=other)
    return {**measured, **{f"masking_{name}": value for name, value in found.items()}}


def standard(model: nn.Module, x: Tensor | ImageSet, y: Tensor, *, n_checked: int) -> Outcomes:
    """Return the outcomes of all examples without an attack, as `evaluate` has them.

    The arguments are those of `evaluate`. Raises its errors of model, images and labels.
    """
    _check(x)
    y = whole_labels(y, len(x))
    check_model(model, _at(x, slice(n_checked)), y[:n_checked])
    predicted, _ = answers(guarded(model), x, y)
    return Outcomes(y, predicted, "none", [], y[:0], torch.empty(0))


def _checked(settings: Attack, seed: int, **counts: int) -> Attack:
    """Return `settings`, checked again: `model_copy` and `model_construct` check nothing."""
    check_integers(seed=seed, **counts)
    for name, n in counts.items():
        if n < 1:
            raise ValueError(f"expected {name} of at least 1, got {n}; it is a number of images")
    if not isinstance(settings, Attack):
        raise TypeError(f"expected settings to be an Attack, got {type(settings).__name__}; use Attack.standard()")
    return Attack(**dict(settings))
