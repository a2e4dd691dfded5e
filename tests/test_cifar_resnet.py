"""The ResNet of CIFAR-10 against its published description; what it shares with all nets is in test_nets.py."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.nets.cifar_resnet import Unit
from robacc.nets.model import build
from robacc.seeding import generator


@pytest.mark.parametrize("shared", [False, True])
def test_a_unit_that_changes_nothing_but_size_is_its_shortcut(shared):
    unit = Unit(16, 32, stride=2, shared=shared).eval()
    nn.init.zeros_(unit.conv2.weight)
    x = torch.randn(2, 16, 8, 8, generator=generator(0))
    out = unit(x)
    source = F.leaky_relu(x / (1 + 1e-3) ** 0.5, 0.1) if shared else x
    assert out.shape == (2, 32, 4, 4)
    assert (out[:, :8] == 0).all()
    assert (out[:, 24:] == 0).all()
    torch.testing.assert_close(out[:, 8:24], F.avg_pool2d(source, 2))


def test_a_unit_is_the_published_one():
    unit = Unit(16, 16, stride=1, shared=False).train()
    x = torch.randn(4, 16, 8, 8, generator=generator(0))

    def active(values: Tensor) -> Tensor:
        mean, var = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), keepdim=True, unbiased=False)
        normal = (values - mean) / (var + 1e-3).sqrt()
        return normal.where(normal > 0, 0.1 * normal)

    hidden = F.conv2d(active(x), unit.conv1.weight, padding=1)
    torch.testing.assert_close(unit(x), x + F.conv2d(active(hidden), unit.conv2.weight, padding=1))


def test_the_first_convolution_has_the_published_deviation():
    weight = build("cifar_resnet", mean=[0.5] * 3, std=[0.25] * 3, seed=0)[1][1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.05)
