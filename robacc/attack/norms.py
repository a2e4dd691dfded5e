"""Define the paper's two threat models, l-infinity and l2.

A threat model holds a ball and the operations on it that an attack needs. An attack contains no code for a norm. Every
operation treats each example of a batch separately. `delta` and `grad` have shape [B, ...], and row i of a result
depends on row i only.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """Reshape per-example `values` [B] so that they broadcast over `like` [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Linf:
    """The threat model max|delta| <= eps.

    Images are in [0, 1], and `eps` is in the same units.
    """

    eps: float
    norm = "linf"

    @property
    def tolerance(self) -> float:
        """The excess of the norm over `eps`, measured in float64, that float rounding of x + delta can cause."""
        return 1e-6

    def size(self, delta: Tensor) -> Tensor:
        """Return the norm of each example of `delta`: [B, ...] -> [B]."""
        return delta.flatten(1).abs().amax(1)

    def project(self, delta: Tensor) -> Tensor:
        """Return the point of the ball nearest to `delta`, [B, ...].

        A `delta` inside the ball is unchanged.
        """
        return delta.clamp(-self.eps, self.eps)

    def step(self, grad: Tensor, step_size: float) -> Tensor:
        """Return the steepest-ascent step of length `step_size`, along the sign of the gradient, [B, ...]."""
        return grad.sign().mul_(step_size)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a perturbation for each example of `x`, uniform in the ball, [B, ...]."""
        noise = torch.rand(x.shape, generator=generator).to(x.device)
        return noise.mul_(2 * self.eps).sub_(self.eps)


@dataclass(frozen=True)
class L2:
    """The threat model ||delta||_2 <= eps for each example.

    Images are in [0, 1], and `eps` is in the same units.
    """

    eps: float
    norm = "l2"

    @property
    def tolerance(self) -> float:
        """The excess of the norm over `eps`, measured in float64, that float rounding of x + delta can cause."""
        return 1e-5 * self.eps

    def size(self, delta: Tensor) -> Tensor:
        """Return the norm of each example of `delta`: [B, ...] -> [B]."""
        return delta.flatten(1).norm(dim=1)

    def project(self, delta: Tensor) -> Tensor:
        """Return the point of the ball nearest to `delta`, [B, ...].

        A `delta` inside the ball is unchanged.
        """
        size = self.size(delta).clamp_min(torch.finfo(delta.dtype).tiny)
        return delta * _rows((self.eps / size).clamp_max(1.0), delta)

    def step(self, grad: Tensor, step_size: float) -> Tensor:
        """Return the steepest-ascent step of length `step_size`, along the gradient, [B, ...].

        An example does not move if its gradient is exactly zero. The largest entry of a gradient is first scaled to 1.
        The squares of a confident model's gradient would otherwise underflow.
        """
        largest = grad.flatten(1).abs().amax(1)
        unit = grad / _rows(largest.where(largest > 0, 1.0), grad)
        return unit * _rows(step_size / self.size(unit).clamp_min(1.0), unit)

    def random(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a perturbation for each example of `x`, uniform in the ball, [B, ...].

        A normal vector gives the direction, and U^(1/d) eps the radius. In high dimension nearly all of the ball is
        near its surface. A radius of U eps would be half of eps on average.
        """
        direction = torch.randn(x.shape, generator=generator)
        radius = torch.rand(len(x), generator=generator) ** (1 / math.prod(x.shape[1:]))
        scale = self.eps * radius / self.size(direction)
        return (direction * _rows(scale, direction)).to(x.device)


Threat = Linf | L2


def threat_model(norm: str, eps: float) -> Threat:
    """Return the threat model of `norm`, "linf" or "l2", with radius `eps` >= 0.

    Raises ValueError for another norm, and for an `eps` that is negative or not finite.
    """
    if not (eps >= 0 and math.isfinite(eps)):
        raise ValueError(f"expected eps to be a finite number >= 0, got {eps}")
    if norm == "linf":
        return Linf(eps)
    if norm == "l2":
        return L2(eps)
    raise ValueError(f"expected norm to be 'linf' or 'l2', got {norm!r}")


def whole_box(norm: str, x: Tensor) -> Threat:
    """Return the smallest threat model in `norm` that allows every image in [0, 1], around any `x` [B, ...]."""
    widest = torch.ones_like(x[:1], dtype=torch.float64)
    return threat_model(norm, threat_model(norm, 0.0).size(widest).item())
