"""The net `small_cnn` for colour images."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast, StridedPair


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 32x32 colour images (1.0 M multiply-adds)."""
    return nn.Sequential(
        StridedPair(3, 16, 32),
        FlattenChannelsLast(),
        nn.Linear(8 * 8 * 32, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
