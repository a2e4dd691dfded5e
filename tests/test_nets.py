"""The nets, their initialisation, and their files."""

import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robacc.files import write_tensors
from robacc.nets._pooled_convs import LANES, PooledConvs, _compiled
from robacc.nets.layers import Normalize, StridedConv
from robacc.nets.model import build, chunks, eval_mode, frozen, load, save
from robacc.nets.names import NAMES
from robacc.seeding import generator

SHAPES = {
    "narrow_cnn": (1, 28, 28),
    "paper_cnn": (1, 28, 28),
    "narrow_cnn_32": (3, 32, 32),
    "narrow_cnn_64": (3, 64, 64),
    "cifar_resnet": (3, 32, 32),
    "resnet50": (3, 64, 64),  # 224 in use, for which tests have no time
}
NETS = pytest.mark.parametrize("arch", NAMES)


def spec_of(arch: str) -> dict:
    channels = SHAPES[arch][0]
    return {"arch": arch, "mean": [0.1307] * channels, "std": [0.3081] * channels, "n_classes": 9}


def net(arch: str = "narrow_cnn", seed: int = 0) -> nn.Module:
    return build(**spec_of(arch), seed=seed)


def batch(arch: str = "narrow_cnn", n: int = 3) -> Tensor:
    return torch.rand(n, *SHAPES[arch], generator=generator(0))


def answer(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and the gradient of their squares."""
    x = x.clone().requires_grad_()
    logits = model(x)
    return logits.detach(), torch.autograd.grad(logits.square().sum(), x)[0]


def layers_of(model: nn.Sequential) -> nn.Sequential:
    """Return its layers as PyTorch computes them."""
    return nn.Sequential(*model)


# ---- Layers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (8, 12)), (2, (4, 4)), (3, (6, 10))])
def test_the_gradient_on_blocks_is_that_of_the_plain_layer(channels, size):
    layer, plain = StridedConv(channels, 5).double(), nn.Conv2d(channels, 5, 4, 2, 1).double()
    plain.load_state_dict(layer.state_dict())
    results = []
    for conv, context in ((layer, frozen(layer)), (layer, nullcontext()), (plain, nullcontext())):
        x = torch.rand(4, channels, *size, generator=generator(1), dtype=torch.float64, requires_grad=True)
        with context:
            out = conv(x)
            weights = torch.rand(out.shape, generator=generator(2), dtype=torch.float64)
            results.append([out, *torch.autograd.grad((out * weights).sum(), x)])
    for found in results[:-1]:
        for one, other in zip(found, results[-1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_gradient_on_blocks_refuses_a_second_derivative():
    """It leaves autograd, so that a second derivative would be wrong: an error is better."""
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    conv = StridedConv(1, 2)
    with frozen(conv):
        out = conv(x)
        (grad,) = torch.autograd.grad((out * out).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def everything(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the result, and the gradients of the images and of all parameters, as a random direction has them."""
    x = x.clone().requires_grad_()
    out = model(x)
    direction = torch.randn(out.shape, generator=generator(5))
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), [x, *model.parameters()])]


@pytest.mark.parametrize("n", [0, 1, 7, 8, LANES, LANES + 1, 100, 3 * LANES])
def test_pooled_convolutions_are_those_of_pytorch(n):
    """Also where pixels are equal, as in the black of MNIST, and after larger batches, whose images are still there."""
    model = net()[1]
    x = torch.randn(n, 1, 28, 28, generator=generator(n))
    x[:, :, :, :14] = -0.4242
    model(torch.randn(3 * LANES, 1, 28, 28))
    for mine, theirs in zip(everything(model, x), everything(layers_of(model), x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("c_in", "c_out", "side"), [(1, 8, 28), (3, 5, 12), (2, 1, 2)])
def test_a_pooled_convolution_takes_any_channels_and_even_sides(c_in, c_out, side):
    conv = nn.Conv2d(c_in, c_out, 3, padding=1)
    layers = nn.Sequential(conv, nn.MaxPool2d(2), nn.ReLU())
    x = torch.randn(9, c_in, side, side, generator=generator(1))
    results = []
    for function in (lambda x: PooledConvs.apply(x, conv.weight, conv.bias), layers):
        images = x.clone().requires_grad_()
        out = function(images)
        results.append([out, *torch.autograd.grad(out.square().sum(), [images, *conv.parameters()])])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", [(0, 0), (13, 13), (27, 27), (14, 27), None])
def test_pooled_convolutions_show_nan(where):
    """A diverged net must be noticed, so NaN may not end in a maximum."""
    model, x = net()[1], torch.zeros(2, 1, 28, 28)
    if where:
        x[1, 0, *where] = torch.nan
    else:
        with torch.no_grad():
            model[0].bias[3] = torch.nan
    assert torch.equal(model(x).isnan(), layers_of(model)(x).isnan())
    assert model(x)[1].isnan().all()


def test_pooled_convolutions_refuse_a_second_derivative():
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    out = net()(x)
    (grad,) = torch.autograd.grad((out * out).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_pooled_convolutions_give_the_same_in_every_thread():
    """Their arrays are used again, each by its own thread."""
    model, x = net()[1], torch.randn(300, 1, 28, 28, generator=generator(2))
    alone = [everything(model, part) for part in x.split(60)]
    with ThreadPoolExecutor(5) as threads:
        together = list(threads.map(lambda part: everything(model, part), x.split(60)))
    for one, other in zip(alone, together, strict=True):
        assert all(map(torch.equal, one, other))


def test_pooled_convolutions_are_kept_where_no_folder_can_be_written(monkeypatch):
    """The folder of the code may be read-only, and there may be no home: it is compiled again by each process."""

    def njit(function, *, cache=False, **_):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setattr("robacc.nets._pooled_convs.numba.njit", njit)
    assert _compiled(batch) is batch


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


# ---- Every net ----------------------------------------------------------------------------------------------------


@NETS
def test_a_net_maps_images_to_a_finite_logit_for_each_class(arch):
    model = net(arch)
    logits = model(batch(arch))
    assert logits.shape == (3, 9)
    assert logits.isfinite().all()
    assert isinstance(model[0], Normalize)


@pytest.mark.parametrize(
    ("arch", "count"),
    [("paper_cnn", 3_274_634), ("cifar_resnet", 464_154), ("resnet50", 23_528_522)],
)
def test_parameter_counts_are_those_of_the_papers(arch, count):
    """Of the 32-layer ResNet it is that of shortcuts without parameters."""
    model = build(**{**spec_of(arch), "n_classes": 10}, seed=0)
    assert sum(p.numel() for p in model.parameters()) == count


@NETS
def test_a_net_costs_what_its_words_say(arch):
    words = import_module(f"robacc.nets.{arch}").net.__doc__
    number, unit = re.search(r"([\d.]+) ([MG]) multiply-adds", words).groups()
    shape = (3, 224, 224) if arch == "resnet50" else SHAPES[arch]
    model = net(arch).eval()
    if arch == "narrow_cnn":
        model[1] = layers_of(model[1])  # the counter knows those of PyTorch only
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, *shape))
    measured = counter.get_total_flops() / 2 / {"M": 1e6, "G": 1e9}[unit]
    assert number == (f"{measured:.1f}" if "." in number else f"{measured:.0f}")


@pytest.mark.parametrize("arch", [name for name in NAMES if name != "resnet50"])  # which has no layer of ours
def test_frozen_changes_no_answer_and_no_gradient_and_is_undone(arch):
    # trap 3
    model, x = net(arch), batch(arch)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    next(model.parameters()).requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    with eval_mode(model):
        logits, gradient = answer(model, x)
    with frozen(model):
        assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
        assert not any(module.training for module in model.modules())
        result = answer(model, x)
        with frozen(model):  # an attack inside an attack
            model(x)
        assert torch.equal(answer(model, x)[1], result[1])
    assert torch.equal(result[0], logits)
    torch.testing.assert_close(result[1], gradient, rtol=1e-4, atol=1e-6)  # summed in another order
    with pytest.raises(KeyError), frozen(model):
        raise KeyError
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    fresh = net(arch)
    fresh.load_state_dict(model.state_dict())
    with frozen(model), frozen(fresh):  # nothing computed from the old parameters is left
        for mine, theirs in zip(answer(model, x), answer(fresh, x), strict=True):
            assert torch.equal(mine, theirs)


@NETS
def test_build_is_a_function_of_the_seed_and_leaves_the_global_generator_alone(arch):
    # trap 25
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = net(arch).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = net(arch).state_dict(), net(arch, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    weights = [name for name in first if name.startswith("1.") and first[name].ndim > 1]
    assert weights
    assert not any(torch.equal(first[name], other[name]) for name in weights)


@NETS
def test_what_is_saved_is_loaded(arch, tmp_path):
    model, path = net(arch, seed=5), tmp_path / "model.safetensors"
    about = {**spec_of(arch), "log": [{"loss": 0.5}]}
    save(model, path, about)
    loaded, spec = load(path)
    assert spec == about
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(batch(arch)), model.eval()(batch(arch)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arch": "paper_cnn"}, "to be a model of 'paper_cnn'; it is not: "),
        ({"arch": "my_net"}, "expected arch to be one of"),
        ({"n_classes": 5}, "it is not: "),
        ({"n_classes": "ten"}, "it is not: "),
        ({"mean": "grey"}, "it is not: "),
        ({"mean": None}, "it is not: "),
        ({"arch": ["narrow_cnn"]}, "expected arch to be one of"),
    ],
)
def test_a_model_file_of_another_spec_is_refused_in_one_line(change, words, tmp_path):
    # fault: model files from others
    save(net("narrow_cnn"), tmp_path / "model.safetensors", {**spec_of("narrow_cnn"), **change})
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        load(tmp_path / "model.safetensors")
    assert str(tmp_path / "model.safetensors") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_model_file_without_a_spec_is_refused(tmp_path):
    write_tensors(net("narrow_cnn").state_dict(), tmp_path / "model.safetensors", {"arch": "narrow_cnn"})
    with pytest.raises(
        ValueError, match=r"expected arch, mean, std, n_classes in the metadata of .*got no mean, std, n_cl"
    ):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(("shape", "sizes"), [((1, 28, 28), [500, 500, 1]), ((3, 64, 64), [500, 500, 1])])
def test_a_chunk_of_small_images_has_500(shape, sizes):
    x, y = torch.empty(1001, *shape), torch.arange(1001)
    assert [len(part) for part, _ in chunks(x, y)] == sizes
    assert torch.equal(torch.cat([labels for _, labels in chunks(x, y)]), y)


def test_a_chunk_of_large_images_has_fewer():
    # fault: ResNet-50 at 224 px in chunks of 500
    assert [len(x) for (x,) in chunks(torch.empty(90, 3, 224, 224))] == [40, 40, 10]
    assert [len(x) for (x,) in chunks(torch.empty(2, 3, 9000, 9000, device="meta"))] == [1, 1]
    assert [len(x) for (x,) in chunks(torch.empty(0, 3, 224, 224))] == [0]


def test_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match=f"expected arch to be one of {', '.join(NAMES)}, got 'layers'"):
        build("layers", mean=[0.1307], std=[0.3081], seed=0)


# ---- One net ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["narrow_cnn", "narrow_cnn_32", "narrow_cnn_64", "paper_cnn"])
def test_a_relu_after_the_pooling_is_one_before_it(arch):
    """Also where pixels are equal, as in the black of MNIST, and pooling meets ties."""
    model, x = net(arch).eval(), batch(arch)
    x[:, :, :, :14] = 0
    layers = list(model)[:1] + list(model[1])
    plain = nn.Sequential(*layers)
    for index in [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]:
        layers[index : index + 2] = reversed(layers[index : index + 2])
    for mine, theirs in zip(answer(plain, x), answer(nn.Sequential(*layers), x), strict=True):
        assert torch.equal(mine, theirs)


def test_the_result_does_not_depend_on_the_memory_layout():
    model, x = net("narrow_cnn_32"), batch("narrow_cnn_32")
    torch.testing.assert_close(model(x), model(x.contiguous(memory_format=torch.channels_last)))


def test_an_example_does_not_depend_on_its_batch():
    # trap 2
    model, x = net().eval(), batch(n=8)
    torch.testing.assert_close(model(x), torch.cat([model(row[None]) for row in x]), rtol=0, atol=1e-5)


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


# ---- Files --------------------------------------------------------------------------------------------------------


def test_the_file_is_the_same_every_time(tmp_path):
    # trap 38
    for name in ("a", "b"):
        save(net(), tmp_path / name, spec_of("narrow_cnn"))
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
    with pytest.raises(ValueError, match="got damaged or other content"):
        load(path)


@pytest.mark.parametrize("change", [{"arch": "paper_cnn"}, {"n_classes": 10}], ids=str)
def test_weights_of_another_net_are_refused(change, tmp_path):
    # trap 40
    save(net(), tmp_path / "model.safetensors", spec_of("narrow_cnn") | change)
    with pytest.raises(ValueError, match=r"size mismatch|Missing key"):
        load(tmp_path / "model.safetensors")
