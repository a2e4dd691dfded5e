"""A small net with pooling and batch normalisation for colour images, chosen by `benchmarks/choose_net.py`."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast, StridedConv


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 32x32 colour images (2.7 M multiply-adds).

    Where a convolution is pooled, its ReLU comes after the pooling, as in `paper_cnn`.
    """
    return nn.Sequential(
        StridedConv(3, 16, bias=False),  # the normalisation has a bias
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        FlattenChannelsLast(),
        nn.Linear(4 * 4 * 64, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )
