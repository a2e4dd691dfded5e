"""The paper's CIFAR-10 net, the narrow ResNet of cifar10_challenge (App. A)."""

import torch.nn.functional as F
from torch import Tensor, nn

from robacc.nets.layers import FlattenChannelsLast

SLOPE = 0.1  # of the leaky ReLU below 0, as in cifar10_challenge


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)  # TensorFlow's eps, and 1 minus TensorFlow's decay


def _conv(n_in: int, n_out: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(n_in, n_out, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv


class Unit(nn.Module):
    """A residual unit with batch norm and leaky ReLU before each of its two convolutions (He et al. 2016).

    The shortcut has no parameters. It averages over the stride and pads new channels with zeros on both sides. If
    `shared`, as in the first unit, the shortcut starts after the first leaky ReLU.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int, shared: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(n_in), _norm(n_out)
        self.conv1, self.conv2 = _conv(n_in, n_out, stride), _conv(n_out, n_out, 1)
        self.stride, self.shared, self.extra = stride, shared, n_out - n_in

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, n_in, H, W] to [B, n_out, H/stride, W/stride]."""
        active = F.leaky_relu(self.norm1(x), SLOPE)
        hidden = self.conv2(F.leaky_relu(self.norm2(self.conv1(active)), SLOPE))
        short = active if self.shared else x
        if self.stride > 1:
            short = F.avg_pool2d(short, self.stride)
        if self.extra:
            short = F.pad(short, (0, 0, 0, 0, self.extra // 2, self.extra // 2))
        return hidden + short


def net(n_classes: int) -> nn.Sequential:
    """Return the narrow net of cifar10_challenge for 32x32 colour images (69 M multiply-adds).

    It has groups of 16, 16, 32 and 64 filters. Each of the last three groups has five units. DEVIATION: as for every
    net here, the input is normalised by constants. cifar10_challenge standardises each image by its own mean and
    deviation.
    """
    layers: list[nn.Module] = [_conv(3, 16, 1)]
    width = 16
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for unit in range(5):
            layers.append(Unit(width, filters, stride=stride if unit == 0 else 1, shared=len(layers) == 1))
            width = filters
    head = nn.Linear(width, n_classes)
    nn.init.uniform_(head.weight, -((3 / width) ** 0.5), (3 / width) ** 0.5)
    nn.init.zeros_(head.bias)
    return nn.Sequential(
        *layers, _norm(width), nn.LeakyReLU(SLOPE), nn.AdaptiveAvgPool2d(1), FlattenChannelsLast(), head
    )
