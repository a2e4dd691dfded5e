"""Measure what the gradient of a model is worth: whether it repeats, and whether a step does what it promises."""

import torch
from torch import Tensor, nn

from robacc.attack.answers import guarded, margin
from robacc.attack.norms import Threat
from robacc.attack.pgd import input_gradient, random_start
from robacc.nets.model import frozen


def gradient_noise(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return by how much two gradients of the margin at the same images differ, relative to the first.

    It is the median over the images, 0 for a gradient that repeats and 1.4 for noise.
    """
    model = guarded(model)
    with frozen(model):
        first, second = (input_gradient(model, x, y, margin)[0].flatten(1).double() for _ in range(2))
    size = first.norm(dim=1)
    return _median((second - first).norm(dim=1)[size > 0] / size[size > 0])


def kept_promise(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, share: float, generator: torch.Generator
) -> float:
    """Return what share of the change that the gradient of the margin promises a step of `share` eps brings.

    It is a central difference along an attack's step, from a random start of each image in ball and box. The value is
    the median over the images with a gradient: 1 for a linear model, about 0 for a gradient that says nothing, and
    negative for a wrong one. Without any gradient it is 0. Honest models were between 0.3 and 1.3.
    """
    model, start = guarded(model), random_start(x, threat, generator)
    with frozen(model), torch.no_grad():
        grad, _ = input_gradient(model, start, y, margin)
        step = threat.step(grad, share * threat.eps)
        above, below = (start + step).clamp(0, 1), (start - step).clamp(0, 1)
        change = margin(model(above), y).double() - margin(model(below), y).double()
    promised = (grad.double() * (above.double() - below.double())).flatten(1).sum(1)
    return _median((change / promised)[promised > 0])


def promises(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> dict[str, float]:
    """Return `gradient_noise`, and `kept_promise` of a step that an attack takes and of one that calculus takes."""
    return {
        "gradient_noise": gradient_noise(model, x, y),
        "promise": kept_promise(model, x, y, threat, share=0.1, generator=generator),
        "near_promise": kept_promise(model, x, y, threat, share=1e-4, generator=generator),
    }


def _median(values: Tensor) -> float:
    return values.median().item() if len(values) else 0.0


class Smoothed(nn.Module):
    """The logits of `model`, with the mean gradient of `n_points` random points near the image (Athalye et al. 2018).

    The points lie in the ball of `threat` around it, and in the box. They are new in each call. A mean over points
    is useful where the gradient oscillates or is random, but not on average.
    """

    def __init__(self, model: nn.Module, threat: Threat, *, n_points: int, generator: torch.Generator) -> None:
        super().__init__()
        self.model, self.threat, self.n_points, self.generator = model, threat, n_points, generator

    def forward(self, x: Tensor) -> Tensor:
        """Return model(x), [B, K]."""
        if not x.requires_grad:
            return self.model(x)
        moves = [random_start(x.detach(), self.threat, self.generator) - x.detach() for _ in range(self.n_points)]
        mean = torch.stack([self.model(x + move) for move in moves]).mean(0)
        with torch.no_grad():
            logits = self.model(x)
        return logits + (mean - mean.detach())
