"""Layers that several nets share, one with a fast input gradient."""

import torch
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


class _GradientOnBlocks(torch.autograd.Function):
    """A `StridedConv` with constant parameters.

    The forward pass is the usual one. The backward pass works on blocks.
    """

    @staticmethod
    def forward(
        ctx,  # noqa: ANN001
        x: Tensor,
        conv: nn.Conv2d,
        kernel: Tensor,
    ) -> Tensor:
        """Map x [B, C, H, W] to [B, out, H/2, W/2]."""
        ctx.save_for_backward(kernel)
        return nn.Conv2d.forward(conv, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN001
        """Return the gradient of the input alone."""
        (kernel,) = ctx.saved_tensors
        b, _, h, w = grad.shape
        # The gradient of a convolution takes from its input the shape and the layout alone.
        blocks = grad.new_empty(b, h + 1, w + 1, kernel.shape[1]).permute(0, 3, 1, 2)
        rest = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, extra, groups
        blocks = torch.ops.aten.convolution_backward(grad, blocks, kernel, None, *rest, [True, False, False])[0]
        pixels = blocks.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1)).transpose(2, 3)  # [B, h + 1, 2, w + 1, 2, C]
        return pixels.reshape(b, 2 * h + 2, 2 * w + 2, -1)[:, 1:-1, 1:-1].permute(0, 3, 1, 2), None, None


class StridedConv(nn.Conv2d):
    """A convolution of kernel 4, stride 2 and padding 1.

    On a CPU the input gradient of a strided convolution is slow. An attack needs no other gradient. Inside `frozen` it
    is computed from an equal map without stride: a kernel of 2 on the padded image, whose blocks of 2x2 pixels are
    channels.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=bias)
        self.constant: Tensor | None = None  # set inside `frozen`, where parameters are constant

    def kernel_on_blocks(self) -> Tensor:
        """Return the kernel on blocks, [out, 4 * in, 2, 2]."""
        blocks = self.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2))  # [out, in, 2, row in block, 2, column in block]
        kernel = blocks.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        return kernel.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W], H and W even, to [B, out, H/2, W/2]."""
        # On a GPU strides cost nothing. Under autocast each layer chooses its own type.
        if self.constant is None or x.is_cuda or torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        return _GradientOnBlocks.apply(x, self, self.constant)


class FlattenChannelsLast(nn.Module):
    """Flatten [B, C, H, W] to [B, H * W * C].

    In the channels-last layout this costs nothing, and neither does its gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` flattened, as a view of it if its memory is channels-last."""
        return x.permute(0, 2, 3, 1).flatten(1)
