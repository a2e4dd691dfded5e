"""The paper's MNIST net, the CNN of the TensorFlow tutorial (App. A)."""

from torch import nn

from robacc.nets.layers import FlattenChannelsLast


def net(n_classes: int) -> nn.Sequential:
    """Return the net for 28x28 grey images (14 M multiply-adds).

    A ReLU after the pooling is the same function as before it, and the same gradient, on a quarter of the values.
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        FlattenChannelsLast(),
        nn.Linear(7 * 7 * 64, 1024),
        nn.ReLU(inplace=True),
        nn.Linear(1024, n_classes),
    )
