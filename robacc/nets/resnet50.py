"""The paper's Restricted ImageNet net, torchvision's ResNet-50 (App. A)."""

from torch import nn
from torchvision.models import resnet50


def net(n_classes: int) -> nn.Module:
    """Return the net for 224x224 colour images (4.1 G multiply-adds)."""
    return resnet50(weights=None, num_classes=n_classes)
