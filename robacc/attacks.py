"""Projected gradient descent (Madry et al. 2018), written once for every norm: the adversary of training.

All functions take `x` [B, ...] float in [0, 1] and `y` [B] integer labels, run the model in
evaluation mode, restore its mode, and leave its parameters and their gradients alone.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.models import frozen
from robacc.norms import Ball

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [B, K], y [B] -> [B], larger is worse for the model


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of each example, [B]: the paper's attack objective."""
    return F.cross_entropy(logits, y, reduction="none")


def check_input(x: Tensor) -> None:
    """Raise TypeError or ValueError unless `x` is a float batch inside [0, 1]."""
    if not x.is_floating_point():
        raise TypeError(f"expected x to be float in [0, 1], got {x.dtype}; divide images by 255 first")
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"expected x in [0, 1], got [{x.min():.3g}, {x.max():.3g}]; normalise inside the model")


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return the gradient of each example's loss in `x` [B, ...], and the logits [B, K].

    The losses are summed, so a gradient does not depend on the rest of the batch; only the
    input's gradient is computed. The caller chooses the model's mode.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        (grad,) = torch.autograd.grad(loss(logits, y).sum(), x)
    return grad, logits.detach()


def feasible(x_adv: Tensor, x: Tensor, ball: Ball) -> Tensor:
    """Return `x_adv` projected on the ball around `x`, then clipped to the box [0, 1].

    `x` lies in the box, so clipping only moves a point towards it: the result is in both sets.
    """
    return ball.project(x_adv - x).add_(x).clamp_(0, 1)


def random_start(x: Tensor, ball: Ball, generator: torch.Generator, place: tuple[int, int] | None = None) -> Tensor:
    """Return a point for each example of `x`, uniform in the ball, then clipped to the box.

    With `place` = (first, total), `x` is a part of a batch of `total` examples beginning at `first`, and
    gets the points it would get in it: the noise is drawn for the whole batch.
    """
    first, total = place or (0, len(x))
    noise = ball.random(x[:1].expand(total, *x.shape[1:]), generator)
    return (x + noise[first : first + len(x)]).clamp_(0, 1)


def pgd(model: nn.Module, x: Tensor, y: Tensor, ball: Ball, *, start: Tensor, n_steps: int, step_size: float) -> Tensor:
    """Return the last iterate of `n_steps` steps of PGD on the cross-entropy from `start`.

    This is the adversary of adversarial training. Guarantee: inside ball and box up to float
    rounding (1e-6 in linf, relative 1e-5 in l2). With eps = 0 the result is `x`, bit for bit.
    """
    x_adv = start
    with frozen(model):
        for _ in range(n_steps):
            grad, _ = input_gradient(model, x_adv, y, cross_entropy)
            x_adv = feasible(x_adv + ball.step(grad, step_size), x, ball)
    return x_adv
