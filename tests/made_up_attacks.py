"""What the tests of the attacks share: settings, a model whose gradient lies, and what a model was asked."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robacc.balls import NORMS
from robacc.params import Attack

both_norms = pytest.mark.parametrize("norm", NORMS)
GRID = {"linf": [0.01, 0.03, 0.08], "l2": [0.05, 0.15, 0.3]}


def weak(
    n_starts: int = 1,
    *,
    n_steps: int = 3,
    step_size: float = 1.0,
    first_radius: float = 1.0,
    share: float = 0.0,
    n_queries: int = 0,
) -> Attack:
    """Return an attack of `n_starts` equal starts; after the first they attack what came `share` of the way."""
    return Attack(
        quick_steps=n_steps,
        n_steps=n_steps,
        step_size=step_size,
        first_radius=first_radius,
        restarts=[share] * (n_starts - 1),
        n_queries=dict.fromkeys(NORMS, n_queries),
    )


def strong(n_starts: int = 1) -> Attack:
    """Return an attack that finds the optimum of a linear model."""
    return weak(n_starts, n_steps=60, step_size=0.4)


FLAT = 0.0  # what rounding the input does to an attack


class Lying(nn.Module):
    """The answers of `inner`, with `factor` times its gradient, one factor or one a pixel."""

    def __init__(self, inner: nn.Module, factor: float | Tensor) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.detach() + self.factor * (x - x.detach()))


class Sees(nn.Module):
    """The answers of `inner` to images that are changed first."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.change(x))


class Scaled(nn.Module):
    """A model whose logits are multiplied by `factor`.

    The predictions stay the same. The gradient of the cross-entropy underflows.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return factor * model(x), [B, K]."""
        return self.factor * self.model(x)


class Answers(nn.Module):
    """A model that gives the logits of `inner` through `change`."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> object:
        return self.change(self.inner(x))


class Bands(nn.Module):
    """Of label 0; wrong where the first pixel's distance from 0.5 lies in a band. Its gradient is zero everywhere."""

    def __init__(self, *bands: tuple[float, float]) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, :1]
        distance = (first - 0.5).abs()
        wrong = torch.stack([(low < distance) & (distance < high) for low, high in self.bands]).any(0)
        return torch.where(wrong, torch.tensor([0.0, 2.0]), torch.tensor([2.0, 0.0])) + 0 * first


class Lottery(nn.Module):
    """As `Bands`, in the first of two pixels, with an honest gradient in the other, which fools nobody."""

    def __init__(self, *bands: tuple[float, float]) -> None:
        super().__init__()
        self.bands = Bands(*bands)

    def forward(self, x: Tensor) -> Tensor:
        idle = x.flatten(1)[:, 1:]
        return self.bands(x.detach()) + torch.cat([0 * idle, 1e-3 * idle], 1)


def asked(model: nn.Module) -> list[Tensor]:
    """Return a list to which every batch is added that the model is asked about from now on."""
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    return seen
