"""What the tests share: linear models, whose worst case is a closed form, and small random images."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: worker processes fork, and results repeat

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from robacc.sources import mnist as mnist_source

torch.set_num_threads(1)
settings.register_profile("robacc", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("robacc")


class Linear(nn.Module):
    """Logits W x + b on images [B, 1, H, W]; with two classes the logits are -f/2 and f/2, f = w.x + b."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


class NormNet(nn.Module):
    """A net with batch normalisation and dropout: everything that a wrong mode would show in."""

    def __init__(self, n_pixels: int, n_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
        )
        self.head = nn.Linear(4 * n_pixels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.fixture(scope="session")
def mnist(tmp_path_factory) -> Path:
    """Give the folder of the whole MNIST: the project's own if it is there, else fetched for these tests."""
    own = Path(__file__).parent.parent / "data" / "mnist"
    if own.is_dir():
        return own
    folder = tmp_path_factory.mktemp("mnist")
    mnist_source.store(folder, folder / "raw", n_workers=1, report=print)
    return folder


@pytest.fixture(scope="session")
def archive() -> Callable[[str], Path]:
    """Give archive(name): an archive of real images in a folder data/ beside the project; skips without it."""

    def find(name: str) -> Path:
        found = next(Path(__file__).parent.parent.parent.glob(f"*/data/{name}"), None)
        if found is None:
            pytest.skip(f"there is no {name} in a folder data/ beside the project")
        return found

    return find


@pytest.fixture
def linear() -> Callable[..., Linear]:
    """Give linear(n_classes, n_pixels, dtype): a deterministic model that is right on about half of mid-grey noise."""

    def make(n_classes: int = 2, n_pixels: int = 36, dtype: torch.dtype = torch.float32) -> Linear:
        rng = np.random.default_rng(1)
        if n_classes == 2:
            w = rng.normal(size=n_pixels)
            weight, bias = np.stack([-w / 2, w / 2]), np.array([w.sum() / 4, -w.sum() / 4])  # f = 0 at x = 0.5
        else:
            weight, bias = rng.normal(size=(n_classes, n_pixels)), 0.1 * rng.normal(size=n_classes)
        return Linear(torch.tensor(weight, dtype=dtype), torch.tensor(bias, dtype=dtype)).eval()

    return make


@pytest.fixture
def closed_form() -> Callable[[nn.Module, Tensor, Tensor, str], Tensor]:
    """Give closed_form(model, x, y, norm): each example's smallest fooling eps for a two-class linear model."""

    def smallest(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
        w = (model.weight[1] - model.weight[0]).detach()
        f = x.flatten(1) @ w + (model.bias[1] - model.bias[0]).detach()
        dual = w.abs().sum() if norm == "linf" else w.norm()
        return ((2 * y - 1) * f / dual).clamp_min(0)  # the margin over the dual norm of w

    return smallest


@pytest.fixture
def norm_net() -> Callable[..., NormNet]:
    """Give norm_net(n_pixels): BN and dropout, in training mode, the running statistics not the initial ones."""

    def make(n_pixels: int = 36, n_classes: int = 3) -> NormNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = NormNet(n_pixels, n_classes)
        net.features[1].running_mean.fill_(0.1)
        net.features[1].running_var.fill_(0.5)
        return net

    return make


@pytest.fixture
def smooth_net() -> Callable[..., nn.Module]:
    """Give smooth_net(n_classes): a small tanh net in float64 on [B, 1, 6, 6], so that rounding decides nothing."""

    def make(n_classes: int = 3) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            net = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, n_classes))
        return net.double().eval()

    return make


@pytest.fixture
def pixels() -> Callable[..., Tensor]:
    """Give pixels(n, low, high): images [n, 1, 6, 6] uniform in [low, high]."""

    def make(n: int = 8, low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        values = np.random.default_rng(7).uniform(low, high, size=(n, 1, 6, 6))
        return torch.tensor(values, dtype=dtype)

    return make


@pytest.fixture
def edge_pixels(pixels: Callable[..., Tensor]) -> Tensor:
    """Images of which a third of the pixels are exactly 0 and a third exactly 1, as in MNIST."""
    x = pixels(8)
    return torch.where(x < 1 / 3, 0.0, torch.where(x > 2 / 3, 1.0, x))
