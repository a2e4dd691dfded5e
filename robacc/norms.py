"""The two threat models of the paper: balls around an image, in l-infinity and in l2.

An attack knows no norm; it asks the ball. Every function works on each example of a batch alone:
`delta` and `grad` have shape [B, ...], and row i of a result depends on row i only.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NORMS = ("linf", "l2")


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """Reshape per-example `values` [B] so that they broadcast over `like` [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Linf:
    """The ball max|delta| <= eps; `eps` in pixel units, images being in [0, 1]."""

    eps: float
    norm = "linf"

    def size(self, delta: Tensor) -> Tensor:
        """Return the norm of each example of `delta`: [B, ...] -> [B]."""
        return delta.flatten(1).abs().amax(1)

    def project(self, delta: Tensor) -> Tensor:
        """Return the nearest point of the ball to `delta`; interior points are unchanged."""
        return delta.clamp(-self.eps, self.eps)

    def step(self, grad: Tensor, step_size: float) -> Tensor:
        """Return the steepest-ascent step of length `step_size`: the sign of the gradient."""
        return grad.sign().mul_(step_size)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a perturbation for each example of `x`, uniform in the ball."""
        noise = torch.rand(x.shape, generator=generator).to(x.device)
        return noise.mul_(2 * self.eps).sub_(self.eps)


@dataclass(frozen=True)
class L2:
    """The ball ||delta||_2 <= eps per example; `eps` in pixel units, images being in [0, 1]."""

    eps: float
    norm = "l2"

    def size(self, delta: Tensor) -> Tensor:
        """Return the norm of each example of `delta`: [B, ...] -> [B]."""
        return delta.flatten(1).norm(dim=1)

    def project(self, delta: Tensor) -> Tensor:
        """Return the nearest point of the ball to `delta`; interior points are unchanged."""
        size = self.size(delta).clamp_min(torch.finfo(delta.dtype).tiny)
        return delta * _rows((self.eps / size).clamp_max(1.0), delta)

    def step(self, grad: Tensor, step_size: float) -> Tensor:
        """Return the steepest-ascent step of length `step_size`: the gradient's direction.

        An example whose gradient is exactly zero does not move. The largest entry is scaled to 1
        first: the square of a confident model's gradient underflows where the gradient does not.
        """
        largest = grad.flatten(1).abs().amax(1)
        unit = grad / _rows(largest.where(largest > 0, 1.0), grad)
        return unit * _rows(step_size / self.size(unit).clamp_min(1.0), unit)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a perturbation for each example of `x`, uniform in the ball.

        A normal vector gives the direction, U^(1/d) the radius. In high dimension nearly all of
        the ball lies at its surface: U alone would start at half of eps on average.
        """
        direction = torch.randn(x.shape, generator=generator)
        radius = torch.rand(len(x), generator=generator) ** (1 / math.prod(x.shape[1:]))
        scale = self.eps * radius / self.size(direction)
        return (direction * _rows(scale, direction)).to(x.device)


Ball = Linf | L2


def ball(norm: str, eps: float) -> Ball:
    """Return the ball of radius `eps` >= 0 in `norm`, "linf" or "l2"; ValueError otherwise."""
    if not (eps >= 0 and math.isfinite(eps)):
        raise ValueError(f"expected eps to be a finite number >= 0, got {eps}")
    if norm == "linf":
        return Linf(eps)
    if norm == "l2":
        return L2(eps)
    raise ValueError(f"expected norm to be 'linf' or 'l2', got {norm!r}")
