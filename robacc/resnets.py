"""The nets of colour images: the paper's two ResNets, and two small ones for machines without a GPU.

`robacc.models` finds them by name when one is built, so that a change here trains no MNIST net again.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50 as torchvision_resnet50

from robacc.models import FlattenChannelsLast, StridedPair

SLOPE = 0.1  # of the leaky ReLU below 0, in cifar10_challenge


def small_cnn_32(n_classes: int) -> nn.Sequential:
    """Return `small_cnn` for 32x32 colour images: 1.0 M multiply-adds."""
    return nn.Sequential(
        StridedPair(3, 16, 32),
        FlattenChannelsLast(),
        nn.Linear(8 * 8 * 32, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )


def small_cnn_64(n_classes: int) -> nn.Sequential:
    """Return `small_cnn_32` behind one more strided layer, for 64x64 colour images: 1.7 M multiply-adds."""
    return nn.Sequential(
        nn.Conv2d(3, 8, kernel_size=4, stride=2, padding=1),
        nn.ReLU(inplace=True),
        StridedPair(8, 16, 32),
        FlattenChannelsLast(),
        nn.Linear(8 * 8 * 32, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, n_classes),
    )


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)  # TensorFlow's eps, and 1 minus its decay


def _conv(n_in: int, n_out: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(n_in, n_out, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv


class Unit(nn.Module):
    """A residual unit with normalisation and leaky ReLU before each of its two convolutions (He et al. 2016).

    The shortcut has no parameters: it averages over the stride and pads new channels with 0 on both
    sides. With `shared`, as in the first unit, it starts behind the first leaky ReLU.
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


def cifar_resnet(n_classes: int) -> nn.Sequential:
    """Return the paper's CIFAR-10 net (App. A): groups of 16, 16, 32, 64 filters, five units in each of the last three.

    The narrow net of cifar10_challenge: 69 M multiply-adds. DEVIATION: behind a fixed normalisation
    like every net here, where theirs standardises each image by its own mean and deviation.
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


def resnet50(n_classes: int) -> nn.Module:
    """Return torchvision's ResNet-50, the paper's Restricted ImageNet net (App. A): 4.1 G multiply-adds at 224x224."""
    return torchvision_resnet50(weights=None, num_classes=n_classes)
