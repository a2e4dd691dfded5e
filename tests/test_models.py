"""The networks, their initialisation, and their files."""

import pickle
from contextlib import nullcontext

import pytest
import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from robacc import models
from robacc.models import ARCHITECTURES, MULTIPLY_ADDS, Normalize, StridedPair, build, eval_mode, frozen, load, save
from robacc.seeding import generator

SPEC = {"arch": "small_cnn", "mean": [0.1307], "std": [0.3081]}


def net(arch: str = "small_cnn", seed: int = 0) -> nn.Module:
    return build(arch, mean=[0.1307], std=[0.3081], seed=seed)


def batch(n: int = 3) -> torch.Tensor:
    return torch.rand(n, 1, 28, 28, generator=generator(0))


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (8, 12)), (2, (4, 4))])
def test_the_gradient_on_blocks_is_that_of_the_plain_layers(channels, size):
    pair = StridedPair(channels, 5, 6).double()
    plain = nn.Sequential(nn.Conv2d(channels, 5, 4, 2, 1), nn.ReLU(), nn.Conv2d(5, 6, 4, 2, 1), nn.ReLU()).double()
    plain.load_state_dict(dict(zip(plain.state_dict(), pair.state_dict().values(), strict=True)))
    results = []
    for net, context in ((pair, frozen(pair)), (pair, nullcontext()), (plain, nullcontext())):
        x = torch.rand(4, channels, *size, generator=generator(1), dtype=torch.float64, requires_grad=True)
        with context:
            out = net(x)
            weights = torch.rand(out.shape, generator=generator(2), dtype=torch.float64)
            results.append([out, *torch.autograd.grad((out * weights).sum(), x)])
    assert (results[-1][0] > 0).any()
    assert (results[-1][0] == 0).any()
    for found in results[:-1]:
        for one, other in zip(found, results[-1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_gradient_on_blocks_refuses_a_second_derivative():
    """It works in place, so that a second derivative would be wrong: an error is better."""
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    pair = StridedPair(1, 2, 2)
    with frozen(pair):
        out = pair(x)
        (grad,) = torch.autograd.grad((out * out).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_frozen_changes_no_answer_and_no_gradient_and_is_undone(arch):
    # trap 3
    model, x = net(arch).train(), batch()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    next(model.parameters()).requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    results = []
    for context in (nullcontext(), frozen(model)):
        with context:
            images = x.clone().requires_grad_()
            logits = model(images)
            results.append((logits.detach(), *torch.autograd.grad(logits.square().sum(), images)))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)  # summed in another order
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        assert not any(module.training for module in model.modules())
        with frozen(model):  # an attack inside an attack
            model(x)
        assert torch.equal(model(x), results[0][0])
    with pytest.raises(KeyError), frozen(model):
        raise KeyError
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(module.training for module in model.modules())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    fresh = net(arch)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(model(x), fresh(x))  # nothing computed from the old parameters is left
    for parameter in model.parameters():
        parameter.data.div_(1.5)
    assert all(torch.allclose(value, state[name]) for name, value in model.state_dict().items())


def test_normalize_takes_pixels_and_carries_its_numbers():
    # trap 22
    layer = Normalize([0.1, 0.2, 0.3], [0.5, 1.0, 2.0])
    x = torch.rand(2, 3, 4, 4, generator=generator(0))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    expected = (x.permute(0, 2, 3, 1) - mean) / std
    torch.testing.assert_close(layer(x), expected.permute(0, 3, 1, 2))
    assert set(layer.state_dict()) == {"mean", "std"}
    assert not list(layer.parameters())
    outside = torch.full((1, 3, 1, 1), 1.5)
    assert (layer(outside) > layer(torch.ones(1, 3, 1, 1))).all()  # nothing is clipped in silence


@pytest.mark.parametrize(("arch", "count"), [("small_cnn", 166_406), ("paper_cnn", 3_274_634)])
def test_parameter_counts_are_those_of_the_papers(arch, count):
    assert sum(p.numel() for p in net(arch).parameters()) == count


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_multiply_adds_are_those_of_the_plain_layers(arch):
    model = net(arch)
    if arch == "small_cnn":
        pair = model[1][0]
        model = nn.Sequential(pair.conv1, pair.conv2, *model[1][1:])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch(1))
    assert counter.get_total_flops() == 2 * MULTIPLY_ADDS[arch]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_net_maps_images_to_ten_finite_logits(arch):
    logits = net(arch)(batch())
    assert logits.shape == (3, 10)
    assert logits.isfinite().all()
    assert isinstance(net(arch)[0], Normalize)


def test_the_result_does_not_depend_on_the_memory_layout():
    x = batch()
    torch.testing.assert_close(net()(x), net()(x.contiguous(memory_format=torch.channels_last)))


def test_an_example_does_not_depend_on_its_batch():
    # trap 2
    model, x = net().eval(), batch(8)
    torch.testing.assert_close(model(x), torch.cat([model(row[None]) for row in x]), rtol=0, atol=1e-5)


def test_build_is_a_function_of_the_seed_and_leaves_the_global_generator_alone():
    # trap 25
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = net(seed=0).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = net(seed=0).state_dict(), net(seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.startswith("1."))


def test_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match=r"expected arch to be one of small_cnn, paper_cnn, .*resnet50, got 'resnet'"):
        net("resnet")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_is_saved_is_loaded(arch, tmp_path):
    model, path = net(arch, seed=5), tmp_path / "model.safetensors"
    save(model, path, {**SPEC, "arch": arch, "log": [{"loss": 0.5}]})
    loaded, spec = load(path)
    assert torch.equal(loaded(batch()), model(batch()))
    assert spec == {**SPEC, "arch": arch, "log": [{"loss": 0.5}]}
    assert not any(module.training for module in loaded.modules())


def test_the_file_is_the_same_every_time(tmp_path):
    # trap 38
    for name in ("a", "b"):
        save(net(), tmp_path / name, SPEC)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Exploit:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(writer, tmp_path):
    # trap 40
    path = tmp_path / "model.safetensors"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Exploit()))
    else:
        torch.save(net().state_dict(), path)
    with pytest.raises(SafetensorError):
        load(path)


def test_weights_of_another_net_are_refused(tmp_path):
    # trap 40
    save(net("paper_cnn"), tmp_path / "model.safetensors", SPEC)
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key"):
        models.load(tmp_path / "model.safetensors")


def test_eval_mode_restores_every_module(norm_net):
    # trap 1
    model = norm_net()
    model.features[1].eval()
    before = [module.training for module in model.modules()]
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError), eval_mode(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before
