"""What a model looks at: loss gradients, large-eps adversarial examples, interpolations (Figures 2 to 4)."""

import torch
from torch import Tensor, nn

from robacc.attacks import check_input, cross_entropy, input_gradient, pgd
from robacc.models import eval_mode
from robacc.norms import Ball


def loss_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of each example's cross-entropy at its true label, [B, ...] (Figures 2, 10)."""
    check_input(x)
    with eval_mode(model):
        return input_gradient(model, x, y, cross_entropy)[0]


def large_eps_examples(
    model: nn.Module, x: Tensor, y: Tensor, threat: Ball, *, n_steps: int, step_size: float
) -> Tensor:
    """Return the last iterate of PGD from the image itself in a large ball, [B, ...] (Figures 3, 8, 9).

    `step_size` is a fraction of eps. Started at the image, so that the path, and not chance, decides
    where it leads.
    """
    check_input(x)
    return pgd(model, x, y, threat, start=x, n_steps=n_steps, step_size=step_size * threat.eps)


def interpolation(x: Tensor, x_adv: Tensor, n_points: int) -> Tensor:
    """Return `n_points` images on the line from `x` to `x_adv`, [B, n_points, ...] (Figure 4).

    The first is `x` and the last `x_adv`, bit for bit.
    """
    shares = torch.linspace(0, 1, n_points).reshape(1, -1, *[1] * (x.ndim - 1))
    path = x[:, None] * (1 - shares) + x_adv[:, None] * shares
    path[:, 0], path[:, -1] = x, x_adv
    return path


def probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Return the class probabilities of `x` [B, ...]: [B, K]."""
    with eval_mode(model), torch.no_grad():
        return model(x).softmax(1)
