"""The paper's MNIST net with fewer and smaller filters, chosen by `benchmarks/choose_net.py`."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 28x28 grey images (0.4 M multiply-adds).

    Its ReLUs come after the pooling, as in `paper_cnn`.
    """
    return nn.Sequential(
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
