"""A small net with one pooling for colour images, chosen by `benchmarks/choose_net.py`."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast, StridedConv


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 32x32 colour images (1.6 M multiply-adds).

    Its second ReLU comes after the pooling, as in `paper_cnn`.
    """
    return nn.Sequential(
        StridedConv(3, 16),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        FlattenChannelsLast(),
        nn.Linear(8 * 8 * 32, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
