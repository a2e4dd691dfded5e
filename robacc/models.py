"""The networks, and how they are built, saved and loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


def _to_blocks(x: Tensor) -> Tensor:
    """Make channels of 4x4 blocks of pixels: [B, C, H, W] to [B, 16 C, H/4, W/4], channels last."""
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1)  # [B, H/4, W/4, 4, 4, C]
    return blocks.reshape(b, h // 4, w // 4, 16 * c).permute(0, 3, 1, 2)


def _from_blocks(blocks: Tensor) -> Tensor:
    """Undo `_to_blocks`."""
    b, c, h, w = blocks.shape
    return blocks.reshape(b, 4, 4, c // 16, h, w).permute(0, 3, 4, 1, 5, 2).reshape(b, c // 16, 4 * h, 4 * w)


class _TwoOnBlocks(torch.autograd.Function):
    """The two layers of `StridedPair` on blocks, forward and backward, without a copy that is not needed."""

    @staticmethod
    def forward(
        ctx,  # noqa: ANN001
        x: Tensor,
        first: Tensor,
        bias1: Tensor,
        second: Tensor,
        bias2: Tensor,
        ceiling: Tensor,
    ) -> Tensor:
        """Map x [B, C, H, W] to [B, out, H/4, W/4], with the kernels of `StridedPair.kernels`."""
        blocks = _to_blocks(x)
        hidden = F.conv2d(blocks, first, bias1, padding=1).clamp_(x.new_zeros(()), ceiling)  # ReLU and mask in one
        out = F.conv2d(hidden, second, bias2).relu_()
        ctx.save_for_backward(blocks, hidden, out, first, second)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
        """Return the gradients of the input and, where they are wanted, of kernels and biases."""
        blocks, hidden, out, first, second = ctx.saved_tensors
        of_input, of_weights = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        conv = torch.ops.aten.convolution_backward
        rest = ([1, 1], False, [0, 0], 1)  # dilation, transposed, output padding, groups
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        mask = [True, of_weights, of_weights]
        grad, grad_second, grad_bias2 = conv(grad, hidden, second, [len(second)], [1, 1], [0, 0], *rest, mask)
        torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
        mask = [of_input, of_weights, of_weights]
        grad, grad_first, grad_bias1 = conv(grad, blocks, first, [len(first)], [1, 1], [1, 1], *rest, mask)
        return _from_blocks(grad) if of_input else None, grad_first, grad_bias1, grad_second, grad_bias2, None


@lru_cache(maxsize=8)
def _ceiling(rows: int, columns: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return infinity on the hidden layer of `StridedPair`, 0 around it: [1, 4 * channels, rows + 1, columns + 1]."""
    inside = F.pad(torch.full((2 * rows, 2 * columns), torch.inf, dtype=dtype, device=device), (1, 1, 1, 1))
    blocks = inside.reshape(rows + 1, 2, columns + 1, 2).permute(1, 3, 0, 2)  # [2, 2, rows + 1, columns + 1]
    blocks = blocks[:, :, None].expand(-1, -1, channels, -1, -1).flatten(0, 2)
    return blocks[None].contiguous(memory_format=torch.channels_last)


class StridedPair(nn.Module):
    """Two convolutions of kernel 4, stride 2, padding 1, each with a ReLU, computed as two of kernel 2, stride 1.

    The same map and the same parameters as the plain layers. Blocks of 4x4 pixels, and of 2x2 positions
    of the hidden layer, become channels: no layer has a stride, whose input gradient is slow on a CPU, and
    the layout is changed once, at the input, where the tensor is smallest. The hidden layer is computed on
    whole blocks, also on those half outside the image, where it is set to the 0 with which the second
    layer pads.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(hidden_channels, out_channels, kernel_size=4, stride=2, padding=1)
        self.constants: tuple[Tensor, Tensor, Tensor] | None = None  # set by `frozen`, while parameters cannot change

    def kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return kernel and bias of the first layer on blocks, [4 * hidden, 16 * in, 2, 2], and the second's kernel."""
        w1, w2 = self.conv1.weight, self.conv2.weight
        # Position (a, b) of a hidden block sees the 8x8 pixels of four blocks through a kernel shifted by (2a, 2b).
        shifted = torch.stack([F.pad(w1, (1 + 2 * b, 3 - 2 * b, 1 + 2 * a, 3 - 2 * a)) for a in (0, 1) for b in (0, 1)])
        first = shifted.reshape(-1, w1.shape[1], 2, 4, 2, 4).permute(0, 3, 5, 1, 2, 4).reshape(4 * len(w1), -1, 2, 2)
        second = w2.reshape(-1, w2.shape[1], 2, 2, 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(len(w2), -1, 2, 2)
        layout = torch.channels_last
        bias = self.conv1.bias
        assert bias is not None
        return first.contiguous(memory_format=layout), bias.repeat(4), second.contiguous(memory_format=layout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W], H and W multiples of 4, to [B, out, H/4, W/4]."""
        if x.is_cuda or torch.is_autocast_enabled(
            x.device.type
        ):  # there strides cost nothing, and layers choose a type
            return F.relu(self.conv2(F.relu(self.conv1(x))))
        first, bias, second = self.constants or self.kernels()
        ceiling = _ceiling(x.shape[2] // 4, x.shape[3] // 4, self.conv1.out_channels, x.dtype, x.device)
        return _TwoOnBlocks.apply(x, first, bias, second, self.conv2.bias, ceiling)


class FlattenChannelsLast(nn.Module):
    """Flatten [B, C, H, W] to [B, H * W * C]: free, and so is its gradient, in the channels-last layout."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a view of `x` where its memory is channels-last."""
        return x.permute(0, 2, 3, 1).flatten(1)


def small_cnn() -> nn.Sequential:
    """Return the MNIST net of Wong & Kolter 2018: 0.6 M multiply-adds, 166,406 parameters."""
    return nn.Sequential(
        StridedPair(1, 16, 32),
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
# Nets of colour images, functions of the number of classes, and the modules they are in: imported by name when
# one is built, as the nets above do not depend on them and must not be trained again for a change there.
COLOUR = dict.fromkeys(("small_cnn_32", "small_cnn_64", "cifar_resnet", "resnet50"), "robacc.resnets")
# Multiply-adds of one image forward, as the plain layers need them.
MULTIPLY_ADDS = {
    "small_cnn": 609_384,
    "paper_cnn": 13_883_904,
    "small_cnn_32": 3_541_504,
    "small_cnn_64": 6_031_872,
    "cifar_resnet": 68_862_592,
    "resnet50": 4_087_154_688,  # with 9 classes
}


def modules_of(arch: str) -> tuple[str, ...]:
    """Return the modules that the net `arch` needs beside this one and what it imports."""
    return (COLOUR[arch],) if arch in COLOUR else ()


def _net(arch: str, n_classes: int) -> nn.Module:
    if arch in ARCHITECTURES:
        if n_classes != 10:
            raise ValueError(f"expected 10 classes for {arch}, got {n_classes}; choose one of {', '.join(COLOUR)}")
        return ARCHITECTURES[arch]()
    if arch in COLOUR:
        return getattr(import_module(COLOUR[arch]), arch)(n_classes)
    raise ValueError(f"expected arch to be one of {', '.join([*ARCHITECTURES, *COLOUR])}, got {arch!r}")


def build(arch: str, *, mean: list[float], std: list[float], seed: int, n_classes: int = 10) -> nn.Module:
    """Return a freshly initialised net `arch` behind its normalisation, in the channels-last layout.

    The weights are the architecture's initialisation, PyTorch's default but for `cifar_resnet`, a function
    of `seed` alone. Raises ValueError for an unknown `arch`, and for MNIST's with other than 10 classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        net = nn.Sequential(Normalize(mean, std), _net(arch, n_classes))
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


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode with constant parameters, as an attack uses it; on leaving, undo all of it.

    No gradient is recorded for the parameters, and what a layer computes from them alone is computed once.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    pairs = [module for module in model.modules() if isinstance(module, StridedPair) and module.constants is None]
    with eval_mode(model):
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            for pair in pairs:
                pair.constants = pair.kernels()
            yield
        finally:
            for pair in pairs:
                pair.constants = None
            for parameter in trained:
                parameter.requires_grad_(True)


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted labels [N] of `x` [N, ...]."""
    with eval_mode(model), torch.no_grad():
        return torch.cat([model(chunk).argmax(1) for chunk in x.split(CHUNK)])


def save(model: nn.Module, path: Path, spec: dict) -> None:
    """Save a model with `spec`: {"arch", "mean", "std", "n_classes"} to rebuild it, and whatever describes it."""
    write_tensors(model.state_dict(), path, spec)


def load(path: Path) -> tuple[nn.Module, dict]:
    """Return the model saved at `path`, in evaluation mode, and its spec. A spec without `n_classes` means 10."""
    state, spec = read_tensors(path)
    model = build(spec["arch"], mean=spec["mean"], std=spec["std"], seed=0, n_classes=spec.get("n_classes", 10))
    model.load_state_dict(state)
    return model.eval(), spec
