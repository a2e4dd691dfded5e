"""The net `small_cnn_32` after one more strided convolution."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast, StridedPair


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 64x64 colour images (1.7 M multiply-adds)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, kernel_size=4, stride=2, padding=1),
        nn.ReLU(inplace=True),
        StridedPair(8, 16, 32),
        FlattenChannelsLast(),
        nn.Linear(8 * 8 * 32, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
