"""The benchmark's own promises; nothing is timed here."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.choose_net import split, winner
from benchmarks.nets import plain
from benchmarks.stages import measured
from robacc.nets import model as nets
from robacc.nets.layers import StridedConv
from robacc.params import load


def test_the_peers_net_is_a_copy_and_leaves_ours_in_its_own_layout() -> None:
    net = nets.build("narrow_cnn_32", mean=[0.5] * 3, std=[0.5] * 3, seed=0).eval()
    assert isinstance(net, torch.nn.Sequential)
    layouts = {name: parameter.stride() for name, parameter in net.named_parameters()}
    theirs = plain(net).eval()
    assert {name: parameter.stride() for name, parameter in net.named_parameters()} == layouts
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in theirs.parameters()}
    x = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(theirs(x), net(x))
    assert all(parameter.is_contiguous() for parameter in theirs.parameters())
    assert not any(isinstance(layer, StridedConv) for layer in theirs.modules())


def table(**seeds: list[float]) -> pd.DataFrame:
    names = ["3x3, pool", "5x5, pool", "1x1, pool", "4x4 stride 2"]
    return pd.DataFrame({"net": names, "million_multiply_adds": [2.0, 1.0, 0.5, 0.1], **seeds})


def test_the_rule_takes_the_highest_of_the_nets_that_pool() -> None:
    assert winner(table(**{"seed 0": [0.9, 0.8, 0.7, 1.0], "seed 1": [0.9, 0.8, 0.7, 1.0]})) == "3x3, pool"


def test_the_rule_takes_the_cheaper_of_level_nets() -> None:
    """The second is 0.01 behind with a standard error of 0.02, then 0.02 behind with one of 0.005."""
    level = {"seed 0": [0.90, 0.91, 0.7, 1.0], "seed 1": [0.90, 0.87, 0.7, 1.0]}
    assert winner(table(**level)) == "5x5, pool"
    not_level = {"seed 0": [0.90, 0.885, 0.7, 1.0], "seed 1": [0.90, 0.875, 0.7, 1.0]}
    assert winner(table(**not_level)) == "3x3, pool"


def test_the_held_out_images_are_no_training_images() -> None:
    for n, n_held_out in ((60000, 5000), (11500, 2300)):
        used, held_out = split(n)
        assert len(held_out) == n_held_out
        assert torch.equal(torch.cat([used, held_out]).sort().values, torch.arange(n))


@pytest.mark.parametrize(
    ("file", "arch"),
    [("mnist", "narrow_cnn"), ("cifar10", "narrow_cnn_32"), ("restricted_imagenet_64", "narrow_cnn_64")],
)
def test_the_recipes_have_the_nets_that_the_rule_chose(file, arch) -> None:
    """By its layers, as a net is a name in one place and a list of filters in the other."""
    chosen = winner(pd.read_csv(Path(__file__).parent.parent / f"benchmarks/choice-{file}.csv"))
    params = load()
    recipe = params.recipes[params.datasets[file].recipe]
    assert recipe.arch == arch
    net = nets.build(arch, mean=recipe.mean, std=recipe.std, seed=0, n_classes=recipe.n_classes)
    words = []
    for layer in list(net[1]):
        if isinstance(layer, torch.nn.Conv2d):
            stride = f" stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
            words.append(f"{layer.kernel_size[0]}x{layer.kernel_size[0]}{stride} ({layer.out_channels})")
        elif isinstance(layer, torch.nn.MaxPool2d):
            words.append("pool")
        elif isinstance(layer, torch.nn.Linear):
            words.append(f"dense {layer.out_features}")
    words += ["batch norm"] * any(isinstance(layer, torch.nn.BatchNorm2d) for layer in list(net[1]))
    assert ", ".join(word for word in words if word != f"dense {recipe.n_classes}") == chosen


def test_a_stage_lasts_from_its_start_to_the_next() -> None:
    clock = iter([0.0, 1.0, 4.5, 10.0]).__next__
    lines = ["Stage 'code' didn't change", "Running stage 'theory':", "> python", "Running stage 'train@mnist-l2-1.5':"]
    assert measured(lines, clock) == [
        {"stage": "theory", "seconds": 3.5},
        {"stage": "train@mnist-l2-1.5", "seconds": 5.5},
    ]
    assert measured(["Stage 'theory' didn't change, skipping\n"]) == []
