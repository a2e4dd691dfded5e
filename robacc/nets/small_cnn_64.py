"""A net of three strided convolutions."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast, StridedConv


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 64x64 colour images (1.7 M multiply-adds)."""
    return nn.Sequential(
        StridedConv(3, 8),
        nn.ReLU(inplace=True),
        StridedConv(8, 16),
        nn.ReLU(inplace=True),
        StridedConv(16, 32),
        nn.ReLU(inplace=True),
        FlattenChannelsLast(),
        nn.Linear(8 * 8 * 32, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
