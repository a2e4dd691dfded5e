"""The networks, and how they are built, saved and loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
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


def _to_blocks(x: Tensor, size: int) -> Tensor:
    """Make channels of blocks of pixels: [B, C, H, W] to [B, size^2 C, H/size, W/size], channels last."""
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // size, size, w // size, size).permute(0, 2, 4, 3, 5, 1)  # [B, h, w, size, size, C]
    return blocks.reshape(b, h // size, w // size, size * size * c).permute(0, 3, 1, 2)


def _from_blocks(blocks: Tensor, size: int) -> Tensor:
    """Undo `_to_blocks`."""
    b, c, h, w = blocks.shape
    pixels = blocks.reshape(b, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)  # [B, C, h, size, w, size]
    return pixels.reshape(b, c // size**2, size * h, size * w)


class _InputGradientOnBlocks(torch.autograd.Function):
    """The two layers of `StridedPair` with constant parameters: forward as they stand, backward on blocks."""

    @staticmethod
    def forward(
        ctx,  # noqa: ANN001
        x: Tensor,
        layers: tuple[nn.Conv2d, nn.Conv2d],
        kernels: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Map x [B, C, H, W] to [B, out, H/4, W/4]."""
        hidden = layers[0](x).relu_()
        out = layers[1](hidden).relu_()
        ctx.save_for_backward(hidden, out, *kernels)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN001
        """Return the gradient of the input alone."""
        hidden, out, first, second = ctx.saved_tensors
        blocks = _to_blocks(F.pad(hidden, (1, 1, 1, 1)), 2)  # 0 outside the image, where no gradient may pass
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        grad = _input_gradient(grad, blocks, second, padding=0)
        torch.ops.aten.threshold_backward.grad_input(grad, blocks, 0, grad_input=grad)
        image = grad.new_empty(len(grad), first.shape[1], out.shape[2], out.shape[3])
        image = image.contiguous(memory_format=torch.channels_last)
        return _from_blocks(_input_gradient(grad, image, first, padding=1), 4), None, None


def _input_gradient(grad: Tensor, x: Tensor, kernel: Tensor, *, padding: int) -> Tensor:
    """Return the gradient in `x` of a convolution without stride."""
    rest = ([1, 1], [padding] * 2, [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, extra, groups
    return torch.ops.aten.convolution_backward(grad, x, kernel, None, *rest, [True, False, False])[0]


class StridedPair(nn.Module):
    """Two convolutions of kernel 4, stride 2, padding 1, each with a ReLU, whose input gradient is fast on a CPU.

    The gradient of a strided convolution in its input is slow, and an attack needs no other. Inside `frozen` it
    is that of the same map without stride, a kernel of 2 on blocks: 4x4 pixels of the image and 2x2 positions of
    the hidden layer become channels. Blocks of the hidden layer reach over the image's border, where it is 0.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(hidden_channels, out_channels, kernel_size=4, stride=2, padding=1)
        self.constants: tuple[Tensor, Tensor] | None = None  # set by `frozen`, while parameters cannot change

    def kernels(self) -> tuple[Tensor, Tensor]:
        """Return the kernels on blocks: [4 * hidden, 16 * in, 2, 2] and [out, 4 * hidden, 2, 2]."""
        w1, w2 = self.conv1.weight, self.conv2.weight
        # Position (a, b) of a hidden block sees the 8x8 pixels of four blocks through a kernel shifted by (2a, 2b).
        shifted = torch.stack([F.pad(w1, (1 + 2 * b, 3 - 2 * b, 1 + 2 * a, 3 - 2 * a)) for a in (0, 1) for b in (0, 1)])
        first = shifted.reshape(-1, w1.shape[1], 2, 4, 2, 4).permute(0, 3, 5, 1, 2, 4).reshape(4 * len(w1), -1, 2, 2)
        second = w2.reshape(-1, w2.shape[1], 2, 2, 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(len(w2), -1, 2, 2)
        layout = torch.channels_last
        return first.contiguous(memory_format=layout), second.contiguous(memory_format=layout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W], H and W multiples of 4, to [B, out, H/4, W/4]."""
        # On a GPU strides cost nothing; under autocast the layers choose a type.
        if self.constants is None or x.is_cuda or torch.is_autocast_enabled(x.device.type):
            return self.conv2(self.conv1(x).relu_()).relu_()
        return _InputGradientOnBlocks.apply(x, (self.conv1, self.conv2), self.constants)


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
    "small_cnn_32": 984_320,
    "small_cnn_64": 1_705_216,
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
