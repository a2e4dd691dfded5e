"""Refuse images, labels and eps that no attack can measure, each in one line, before an attack runs."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

import torch
from torch import Tensor

from robacc.attack.norms import threat_model, whole_box
from robacc.attack.pgd import check_input


def check_images(x: Tensor) -> None:
    """Raise TypeError or ValueError unless `x` is a float32 or float64 batch [N, ...] in [0, 1].

    Every pixel is looked at. N may be 0.
    """
    _check_tensor(x, "x")
    if x.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(f"expected x to be float32 or float64, got {x.dtype}, in which eps is lost; use x.float()")
    if x.ndim < 2:
        raise ValueError(f"expected x to be a batch of images [N, ...], got {list(x.shape)}; use x[None] for one image")
    if x.is_floating_point() and x.isnan().any():
        n_broken = int(x.isnan().flatten(1).any(1).sum())
        raise ValueError(f"expected x in [0, 1], got NaN in {n_broken} of {len(x)} images; remove or repair them")
    check_input(x)


def _check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"expected {name} to be a torch.Tensor, got {type(value).__name__}; use torch.as_tensor")
    if value.layout is not torch.strided or value.is_meta:
        got = "one on the device meta, without values" if value.is_meta else f"{value.layout}; use {name}.to_dense()"
        raise TypeError(f"expected {name} to be a dense tensor, got {got}")


def check_integers(**values: object) -> None:
    """Raise TypeError unless each of the named `values` is a whole number."""
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"expected {name} to be a whole number, got {value!r}")


def whole_labels(y: Tensor, n: int) -> Tensor:
    """Return the labels `y` [n] of `n` images as int64, from whole numbers of any width.

    Raises TypeError for another type, and ValueError for another shape or a negative label.
    """
    _check_tensor(y, "y")
    if y.ndim != 1:
        cure = "y.flatten()" if y.numel() == n else "y.argmax(1), if it is one-hot"
        raise ValueError(f"expected labels [{n}], got {list(y.shape)}; use {cure}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"expected labels that are whole numbers, got {y.dtype}; use y.long()")
    if len(y) != n:
        raise ValueError(f"expected as many labels as images, got {n} images, {len(y)} labels")
    y = y.long()
    if n and y.min() < 0:
        raise ValueError(f"expected labels from 0 on, got {y.min()}; remove images without a label")
    return y


def check_order(order: Tensor, n: int) -> Tensor:
    """Return `order`, distinct indices of `n` images in the order in which they are attacked, on the CPU.

    Raises TypeError unless it is a tensor of int64, and ValueError if it is empty, out of range or has an index twice.
    """
    if not isinstance(order, Tensor) or order.dtype != torch.int64:
        got = order.dtype if isinstance(order, Tensor) else type(order).__name__
        raise TypeError(f"expected order to be a tensor of int64 indices, got {got}; use torch.tensor([0, 5, 7])")
    if order.ndim != 1 or not len(order) or order.min() < 0 or order.max() >= n or len(order.unique()) < len(order):
        shown = f"{list(order.shape)} from {order.min()} to {order.max()}" if order.numel() else "none"
        raise ValueError(f"expected order to be distinct indices of images, from 0 to {n - 1}, got {shown}")
    return order.cpu()


def check_eps(norm: str, eps: float, x: Tensor) -> None:
    """Raise ValueError unless `eps` is at most the size of the whole box [0, 1] in `norm`, for images like `x`.

    A larger eps allows no other image. It nearly always is a number in steps of 1/255.
    """
    limit = whole_box(norm, x.new_empty(1, *x.shape[1:])).eps  # `x` may be empty
    if eps > limit:
        raise ValueError(
            f"expected eps of at most {limit:.4g} in {norm}, as images are in [0, 1]; 8/255 is 0.0314, got {eps:g}"
        )


def ascending(norm: str, eps_grid: Iterable[float], x: Tensor) -> list[float]:
    """Return the eps of a grid from the smallest to the largest.

    Raises TypeError unless the grid is a list of numbers. Raises ValueError for an empty grid, another norm, and an eps
    that is 0 or less, not finite, or larger than the whole box.
    """
    threat_model(norm, 0.0)
    if not isinstance(eps_grid, Iterable) or not all(
        isinstance(eps, Real) and not isinstance(eps, bool) for eps in eps_grid
    ):
        raise TypeError(f"expected eps_grid to be a list of numbers such as [2 / 255, 8 / 255], got {eps_grid!r}")
    grid = sorted(eps_grid)
    if not grid:
        raise ValueError("expected eps_grid to have at least one eps, such as [2 / 255, 8 / 255], got none")
    for eps in grid:
        if not (eps > 0 and math.isfinite(eps)):
            raise ValueError(
                f"expected every eps of the grid to be finite and above 0, got {eps}; 0 is always measured"
            )
        check_eps(norm, eps, x)
    return grid
