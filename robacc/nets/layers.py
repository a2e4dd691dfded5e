"""Layers that several nets share, with a fast input gradient for two strided convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Normalize(nn.Module):
    """Normalise each channel by a constant mean and deviation.

    It is the first layer of every model, so attacks work on pixels in [0, 1].
    """

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
    """Turn blocks of pixels into channels: [B, C, H, W] to [B, size^2 C, H/size, W/size].

    The result is channels-last in memory.
    """
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // size, size, w // size, size).permute(0, 2, 4, 3, 5, 1)  # [B, h, w, size, size, C]
    return blocks.reshape(b, h // size, w // size, size * size * c).permute(0, 3, 1, 2)


def _from_blocks(blocks: Tensor, size: int) -> Tensor:
    """Undo `_to_blocks`."""
    b, c, h, w = blocks.shape
    pixels = blocks.reshape(b, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)  # [B, C, h, size, w, size]
    return pixels.reshape(b, c // size**2, size * h, size * w)


class _InputGradientOnBlocks(torch.autograd.Function):
    """The two layers of `StridedPair` with constant parameters.

    The forward pass is the usual one. The backward pass works on blocks.
    """

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
        blocks = _to_blocks(F.pad(hidden, (1, 1, 1, 1)), 2)  # zeros outside the image stop the gradient there
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        grad = _input_gradient(grad, blocks, second, padding=0)
        torch.ops.aten.threshold_backward.grad_input(grad, blocks, 0, grad_input=grad)
        image = grad.new_empty(len(grad), first.shape[1], out.shape[2], out.shape[3])
        image = image.contiguous(memory_format=torch.channels_last)
        return _from_blocks(_input_gradient(grad, image, first, padding=1), 4), None, None


def _input_gradient(grad: Tensor, x: Tensor, kernel: Tensor, *, padding: int) -> Tensor:
    """Return the gradient of a convolution without stride with respect to its input `x`."""
    rest = ([1, 1], [padding] * 2, [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, extra, groups
    return torch.ops.aten.convolution_backward(grad, x, kernel, None, *rest, [True, False, False])[0]


class StridedPair(nn.Module):
    """Two convolutions of kernel 4, stride 2 and padding 1, each with a ReLU.

    On a CPU the input gradient of a strided convolution is slow. An attack needs no other gradient. Inside `frozen` it
    is computed from an equal map without stride, which has a kernel of 2 on blocks. Blocks of 4x4 image pixels and of
    2x2 hidden positions become channels. The blocks of the hidden layer extend beyond the image, where they are 0.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(hidden_channels, out_channels, kernel_size=4, stride=2, padding=1)
        self.constants: tuple[Tensor, Tensor] | None = None  # set inside `frozen`, where parameters are constant

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
        # On a GPU strides cost nothing. Under autocast each layer chooses its own type.
        if self.constants is None or x.is_cuda or torch.is_autocast_enabled(x.device.type):
            return self.conv2(self.conv1(x).relu_()).relu_()
        return _InputGradientOnBlocks.apply(x, (self.conv1, self.conv2), self.constants)


class FlattenChannelsLast(nn.Module):
    """Flatten [B, C, H, W] to [B, H * W * C].

    In the channels-last layout this costs nothing, and neither does its gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` flattened, as a view of it if its memory is channels-last."""
        return x.permute(0, 2, 3, 1).flatten(1)
