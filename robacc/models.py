"""The networks, and how they are built, saved and loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.files import read_tensors, write_tensors
from robacc.seeding import derive

CHUNK = 500  # examples at a time: bounds the memory, and does not change any result


class Normalize(nn.Module):
    """Shift and scale each channel. The first layer of a model, so that attacks see pixels in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] in [0, 1] to zero mean and unit deviation."""
        return (x - self.mean) / self.std


class SpaceToDepthConv2d(nn.Conv2d):
    """A convolution with kernel 4, stride 2, padding 1, computed as one of kernel 2 and stride 1.

    The same linear map and the same parameters as the plain layer: 2x2 blocks of pixels become
    channels first. On a CPU the input gradient of the plain layer with few channels is the slowest
    part of PGD on a small net; this form is about four times faster there.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] with even H and W to [B, out, H/2, W/2]."""
        x = F.pad(x, (1, 1, 1, 1))
        b, c, h, w = x.shape
        blocks = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)  # [B, H', W', C, 2, 2]
        blocks = blocks.reshape(b, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2)  # channels last
        kernel = self.weight.reshape(-1, c, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5)
        kernel = kernel.reshape(-1, 2, 2, 4 * c).permute(0, 3, 1, 2)
        return F.conv2d(blocks, kernel, self.bias)


class FlattenChannelsLast(nn.Module):
    """Flatten [B, C, H, W] to [B, H * W * C]: free, and so is its gradient, in the channels-last layout."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a view of `x` where its memory is channels-last."""
        return x.permute(0, 2, 3, 1).flatten(1)


def small_cnn() -> nn.Sequential:
    """Return the MNIST net of Wong & Kolter 2018: 0.6 M multiply-adds, 166,406 parameters."""
    return nn.Sequential(
        SpaceToDepthConv2d(1, 16),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
        nn.ReLU(inplace=True),
        FlattenChannelsLast(),
        nn.Linear(7 * 7 * 32, 100),
        nn.ReLU(inplace=True),
        nn.Linear(100, 10),
    )


def paper_cnn() -> nn.Sequential:
    """Return the paper's MNIST net, the TensorFlow tutorial CNN (App. A): 14 M multiply-adds."""
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        FlattenChannelsLast(),
        nn.Linear(7 * 7 * 64, 1024),
        nn.ReLU(inplace=True),
        nn.Linear(1024, 10),
    )


ARCHITECTURES = {"small_cnn": small_cnn, "paper_cnn": paper_cnn}


def build(arch: str, *, mean: list[float], std: list[float], seed: int) -> nn.Module:
    """Return a freshly initialised net `arch` behind its normalisation, in the channels-last layout.

    The weights are PyTorch's default initialisation, a function of `seed` alone.
    Raises ValueError for an unknown `arch`.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(f"expected arch to be one of {', '.join(ARCHITECTURES)}, got {arch!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        net = nn.Sequential(Normalize(mean, std), ARCHITECTURES[arch]())
    return net.to(memory_format=torch.channels_last)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode; on leaving, also by an error, restore every submodule's mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted labels [N] of `x` [N, ...]."""
    with eval_mode(model), torch.no_grad():
        return torch.cat([model(chunk).argmax(1) for chunk in x.split(CHUNK)])


def save(model: nn.Module, path: Path, spec: dict) -> None:
    """Save a model with `spec`: {"arch", "mean", "std"} to rebuild it, and whatever describes it."""
    write_tensors(model.state_dict(), path, spec)


def load(path: Path) -> tuple[nn.Module, dict]:
    """Return the model saved at `path`, in evaluation mode, and its spec."""
    state, spec = read_tensors(path)
    model = build(spec["arch"], mean=spec["mean"], std=spec["std"], seed=0)
    model.load_state_dict(state)
    return model.eval(), spec
