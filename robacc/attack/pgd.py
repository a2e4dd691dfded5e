"""Run projected gradient descent (PGD, Madry et al. 2018), the adversary of training, for every norm.

All functions take `x` [B, ...] float in [0, 1] and integer labels `y` [B]. An attack runs the model in evaluation mode
and then restores its mode. The parameters and their gradients do not change.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.attack.norms import Threat
from robacc.nets.model import frozen

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [B, K], y [B] -> [B]; the attack maximises it


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of each example, [B], which is the paper's attack objective."""
    return F.cross_entropy(logits, y, reduction="none")


def check_input(x: Tensor) -> None:
    """Raise TypeError or ValueError unless `x` is a float batch in [0, 1]."""
    if not x.is_floating_point():
        raise TypeError(f"expected x to be float in [0, 1], got {x.dtype}; divide images by 255 first")
    if x.numel() and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(f"expected x in [0, 1], got [{x.min():.3g}, {x.max():.3g}]; normalise inside the model")


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return the gradient of each example's loss with respect to `x`, [B, ...], and the logits [B, K].

    The losses are summed, so a gradient does not depend on the rest of the batch. Only the input's gradient is
    computed. The caller chooses the model's mode.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = model(x)
        (grad,) = torch.autograd.grad(loss(logits, y).sum(), x)
    return grad, logits.detach()


def feasible(x_adv: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """Return `x_adv` projected onto the ball around `x`, then clipped to [0, 1].

    `x` is in [0, 1], so clipping only moves a point towards `x`. The result is therefore in both sets.
    """
    return threat.project(x_adv - x).add_(x).clamp_(0, 1)


def random_start(
    x: Tensor, threat: Threat, generator: torch.Generator, part_of: tuple[int, int] | None = None
) -> Tensor:
    """Return a random start for each example of `x`: uniform in the ball, then clipped to [0, 1].

    `part_of` = (first, total) says that `x` is part of a batch of `total` examples, from index `first` on. The noise is
    then drawn for the whole batch, and `x` gets its own part of it.
    """
    first, total = part_of or (0, len(x))
    noise = threat.random(x[:1].expand(total, *x.shape[1:]), generator)
    return (x + noise[first : first + len(x)]).clamp_(0, 1)


def pgd(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, start: Tensor, n_steps: int, step_size: float
) -> Tensor:
    """Return the last iterate of `n_steps` PGD steps on the cross-entropy from `start`, [B, ...].

    This is the adversary of adversarial training. The result is in the ball and in [0, 1] up to float rounding. The
    excess is at most 1e-6 in linf, and a share of 1e-5 of eps in l2. With eps = 0 the result is `x` bit for bit.
    """
    x_adv = start
    with frozen(model):
        for _ in range(n_steps):
            grad, _ = input_gradient(model, x_adv, y, cross_entropy)
            x_adv = feasible(x_adv + threat.step(grad, step_size), x, threat)
    return x_adv
