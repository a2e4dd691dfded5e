"""The paper's MNIST net with fewer and smaller filters, chosen by `benchmarks/choose_net.py`."""

import torch
from torch import Tensor, nn

from robacc.nets._pooled_convs import PooledConvs
from robacc.nets.layers import FlattenChannelsLast


class NarrowCNN(nn.Sequential):
    """Layers of PyTorch, whose two blocks of convolution, pooling and ReLU a CPU computes with `PooledConvs`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [B, 1, 28, 28] to logits [B, K]."""
        # A GPU and torch.compile have kernels of their own. Under autocast each layer chooses its own type.
        others = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if others or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        convs = [layer for layer in self if isinstance(layer, nn.Conv2d)]
        y = PooledConvs.apply(x, *(parameter for conv in convs for parameter in (conv.weight, conv.bias)))
        for layer in self[6:]:
            y = layer(y)
        return y


def net(n_classes: int) -> NarrowCNN:
    """Return the net for 28x28 grey images (0.4 M multiply-adds).

    Its ReLUs come after the pooling, as in `paper_cnn`.
    """
    return NarrowCNN(
        nn.Conv2d(1, 8, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        FlattenChannelsLast(),
        nn.Linear(7 * 7 * 16, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
