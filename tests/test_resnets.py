"""The nets of colour images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robacc import models
from robacc.models import COLOUR, MULTIPLY_ADDS, build, frozen, load, modules_of, save
from robacc.provenance import import_closure
from robacc.resnets import Unit
from robacc.seeding import generator

SPEC = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616], "n_classes": 9}
PIXELS = {"small_cnn_32": 32, "small_cnn_64": 64, "cifar_resnet": 32, "resnet50": 224}
NETS = pytest.mark.parametrize("arch", COLOUR)


def net(arch: str, seed: int = 0) -> nn.Module:
    return build(arch, seed=seed, **SPEC).eval()


def batch(arch: str, n: int = 2) -> Tensor:
    return torch.rand(n, 3, *[min(PIXELS[arch], 64)] * 2, generator=generator(0))


@NETS
def test_a_net_maps_images_to_a_finite_logit_for_each_class(arch):
    logits = net(arch)(batch(arch))
    assert logits.shape == (2, 9)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("arch", "count"), [("cifar_resnet", 464_154 - 65), ("resnet50", 23_526_473), ("small_cnn_32", 272_441)]
)
def test_parameter_counts(arch, count):
    """Of the ResNets, with nine classes: 464,154 with ten is the 32-layer net's of the paper, shortcuts having none."""
    assert sum(p.numel() for p in net(arch).parameters()) == count


@NETS
def test_multiply_adds_are_those_of_the_plain_layers(arch):
    n_classes = 9 if arch == "resnet50" else 10
    model = build(arch, seed=0, **{**SPEC, "n_classes": n_classes}).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.rand(1, 3, PIXELS[arch], PIXELS[arch]))  # mixed precision: the plain layers
    assert counter.get_total_flops() == 2 * MULTIPLY_ADDS[arch]


@NETS
def test_weights_are_a_function_of_the_seed_alone(arch):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = net(arch).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = net(arch).state_dict(), net(arch, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].ndim > 1 and "1." in name)


@NETS
def test_what_is_saved_is_loaded(arch, tmp_path):
    model, path = net(arch, seed=5), tmp_path / "model.safetensors"
    save(model, path, {**SPEC, "arch": arch})
    loaded, spec = load(path)
    assert spec["n_classes"] == 9
    assert torch.equal(loaded(batch(arch)), model(batch(arch)))


@pytest.mark.parametrize("arch", ["small_cnn_32", "small_cnn_64", "cifar_resnet"])
def test_frozen_changes_no_answer_and_no_gradient(arch):
    model, x = net(arch), batch(arch).requires_grad_()
    (plain,) = torch.autograd.grad(model(x).square().sum(), x)
    with frozen(model):
        (attacked,) = torch.autograd.grad(model(x).square().sum(), x)
    torch.testing.assert_close(plain, attacked, rtol=1e-4, atol=1e-6)  # summed in another order
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("arch", ["small_cnn_32", "small_cnn_64"])
def test_the_small_nets_are_the_same_in_plain_layers(arch):
    model, x = net(arch).double(), batch(arch).double()
    fast = model(x)
    with torch.autocast("cpu", enabled=True, dtype=torch.bfloat16):
        plain = model(x)
    torch.testing.assert_close(plain.double(), fast, rtol=0.05, atol=0.02)


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
    weight = net("cifar_resnet")[1][1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.05)


def test_mnist_nets_do_not_depend_on_these():
    # a change here trains no MNIST net again, and every net of this module
    assert "resnets.py" not in {file.name for file in import_closure("robacc.training")}
    assert modules_of("small_cnn") == ()
    assert {modules_of(arch) for arch in COLOUR} == {("robacc.resnets",)}


def test_a_net_of_mnist_has_ten_classes():
    with pytest.raises(ValueError, match="expected 10 classes for small_cnn, got 9; choose one of small_cnn_32"):
        models.build("small_cnn", seed=0, **SPEC)
