"""Robust accuracy against closed forms, and the checks that a broken attack must not pass."""

import re
import warnings
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robacc.attack.adversary import attack, smallest_fooling_eps
from robacc.attack.evaluation import evaluate, standard
from robacc.attack.norms import threat_model
from robacc.images import in_memory
from robacc.images.sample import balanced_order
from robacc.nets import model as nets
from robacc.nets.model import CHUNK, predict
from robacc.params import Attack
from robacc.seeding import generator
from tests.made_up_attacks import (
    FLAT,
    GRID,
    Answers,
    Lottery,
    Lying,
    Scaled,
    Sees,
    asked,
    both_norms,
    strong,
    weak,
)

across_chunks = pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])


# ---- Accuracy -----------------------------------------------------------------------------------------------------


@both_norms
def test_robust_accuracy_of_the_linear_model_is_the_closed_form(norm, linear, pixels, closed_form):
    # trap 19, trap 32
    model, x, y = linear(2), pixels(150, 0.4, 0.6), torch.arange(150) % 2
    threshold = closed_form(model, x, y, norm)
    outcome = smallest_fooling_eps(model, x, y, norm, GRID[norm], strong(), seed=0)
    shares = []
    for eps in GRID[norm]:
        assert ((threshold - eps).abs() > 1e-4 * eps).all()  # no example is on the border
        assert torch.equal(outcome > eps, threshold > eps)
        shares.append((threshold > eps).float().mean().item())
    assert shares == sorted(shares, reverse=True)
    assert 0.5 > shares[0] > shares[-1]


@both_norms
def test_standard_accuracy_of_the_linear_model_is_the_closed_form(norm, linear, pixels, closed_form):
    model, x, y = linear(2), pixels(150, 0.4, 0.6), torch.arange(150) % 2
    expected = closed_form(model, x, y, norm) > 0
    assert torch.equal(predict(model, x) == y, expected)
    assert 0.2 < expected.float().mean() < 0.8


@across_chunks
def test_accuracy_is_a_count_over_all_examples_whatever_the_chunk(n, linear, pixels):
    # trap 31
    model, x, y = linear(10), pixels(n), torch.arange(n) % 10
    expected = model(x).argmax(1)
    assert torch.equal(predict(model, x), expected)
    outcomes, _ = evaluate(model, x, y, "linf", [0.01], weak(), n_robust=7, n_checked=3, seed=0)
    standard, same, robust = outcomes.counts()
    clean = {"norm": "none", "eps": 0.0}
    sampled = balanced_order(y, seed=0)[:7]
    assert standard == {"images": "all", **clean, "n": n, "n_correct": int((expected == y).sum())}
    assert same == {"images": "sample", **clean, "n": min(n, 7), "n_correct": int((expected == y)[sampled].sum())}
    assert [robust[key] for key in ("images", "norm", "eps", "n")] == ["sample", "linf", 0.01, min(n, 7)]
    assert robust["n_correct"] <= same["n_correct"]


class Asked(in_memory.Images):
    """An image set that notes of how many images it makes floats at once."""

    most = 0

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        Asked.most = max(Asked.most, len(indices))
        return super().batch(indices)


@pytest.mark.parametrize("n", [1, CHUNK + 1])
def test_an_image_set_has_the_outcomes_of_its_images_and_few_of_them_as_floats(n, linear, pixels, monkeypatch):
    # fault: all test images as floats in every worker
    monkeypatch.setattr(Asked, "most", 0)
    model, y = linear(10), torch.arange(n) % 10
    images = Asked((255 * pixels(n)).round().to(torch.uint8), y, "")
    x, _ = in_memory.Images(images.x, y, "").first()
    args = (y, "linf", [0.01], weak())
    expected, checks = evaluate(model, x, *args, n_robust=7, n_checked=3, seed=0)
    outcomes, same = evaluate(model, images, *args, n_robust=7, n_checked=3, seed=0)
    assert same == checks
    alone = standard(model, images, y, n_checked=3)
    for found, of in ((outcomes, expected), (alone, standard(model, x, y, n_checked=3))):
        assert found.counts() == of.counts()
        assert all(torch.equal(values, of.arrays()[name]) for name, values in found.arrays().items())
    assert min(n, 7) <= Asked.most <= CHUNK


@pytest.mark.parametrize("broken", [None, "uint8", "label", "training"])
def test_standard_accuracy_without_an_attack_is_the_same_and_as_strict(broken, linear, pixels):
    model, x, y = linear(10), pixels(40), torch.arange(40) % 10
    if broken is None:
        alone = standard(model, x, y, n_checked=5)
        attacked, _ = evaluate(model, x, y, "linf", [0.01], weak(), n_robust=7, n_checked=3, seed=0)
        assert alone.counts() == attacked.counts()[:1]
        assert set(alone.arrays()) == {"correct", "predicted"}
        assert all(torch.equal(values, attacked.arrays()[name]) for name, values in alone.arrays().items())
        return
    x = (255 * x).to(torch.uint8) if broken == "uint8" else x
    y = y + 1 if broken == "label" else y
    model = nn.Sequential(model, nn.Dropout()).train() if broken == "training" else model
    with pytest.raises((TypeError, ValueError), match="expected"):
        standard(model, x, y, n_checked=20)


@across_chunks
def test_the_chunk_does_not_change_an_attack_with_eps_zero(n, linear, pixels):
    # trap 13
    model, x, y = linear(10), pixels(n), torch.arange(n) % 10
    x_adv, fooled = attack(model, x, y, threat_model("l2", 0.0), weak(), seed=0)
    assert torch.equal(x_adv, x)
    assert torch.equal(fooled, predict(model, x) != y)


@both_norms
@across_chunks
def test_the_chunk_does_not_change_what_a_converged_attack_finds(norm, n, linear, pixels, closed_form):
    # trap 14
    model, x, y, eps = linear(2), pixels(n, 0.4, 0.6), torch.arange(n) % 2, GRID[norm][1]
    threshold = closed_form(model, x, y, norm)
    clear = (threshold - eps).abs() > 1e-3 * eps
    _, fooled = attack(model, x, y, threat_model(norm, eps), strong(), seed=0)
    assert torch.equal(fooled[clear], (threshold <= eps)[clear])
    assert clear.sum() >= 0.99 * n


@both_norms
def test_robustly_correct_examples_are_correct_examples(norm, smooth_net, pixels):
    # trap 9, trap 21: an attack may turn a wrong prediction right; it still counts as wrong
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y = torch.arange(60) % 3
    right = predict(model, x) == y
    assert right.any()
    assert not right.all()
    outcome = smallest_fooling_eps(model, x, y, norm, GRID[norm], weak(), seed=0)
    assert torch.equal(outcome == 0, ~right)
    assert set(outcome.tolist()) <= {0.0, torch.inf, *torch.tensor(GRID[norm], dtype=outcome.dtype).tolist()}


def test_a_wrong_example_stays_wrong_where_the_attack_would_make_it_right():
    # trap 21: wrong at 0.5 alone, right everywhere else, so every random start is a right answer
    class Pinhole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wrong = (x.flatten(1)[:, :1] == 0.5).float()
            return torch.cat([1 - wrong, wrong], 1) + 0 * x.flatten(1)[:, :1]

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    assert (smallest_fooling_eps(Pinhole(), x, y, "linf", [0.1, 0.2], weak(), seed=0) == 0).all()


@both_norms
def test_robust_accuracy_falls_with_eps(norm, smooth_net, pixels):
    # trap 32
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y = predict(model, x)
    y[:10] = (y[:10] + 1) % 3
    grid = [8 * eps for eps in GRID[norm]]
    outcomes, _ = evaluate(model, x, y, norm, grid[::-1], weak(), n_robust=60, n_checked=10, seed=0)
    correct = [row["n_correct"] for row in outcomes.counts()]
    assert correct == sorted(correct, reverse=True)
    assert correct[:2] == [50, 50]
    assert correct[-1] < correct[2]
    assert [row["eps"] for row in outcomes.counts()] == [0.0, 0.0, *grid]


def test_the_whole_box_leaves_no_robust_accuracy(linear, pixels):
    # trap 32
    model, x = linear(2), pixels(30)
    outcome = smallest_fooling_eps(model, x, predict(model, x), "linf", [1.0], strong(), seed=0)
    assert torch.equal(outcome, torch.ones(30))


def test_scaled_logits_do_not_look_robust(linear, pixels):
    # trap 11
    model, x = linear(2), pixels(40, 0.4, 0.6)
    y, scaled = predict(model, x), Scaled(model, 1000.0)
    plain, large = (smallest_fooling_eps(net, x, y, "linf", GRID["linf"], strong(), seed=0) for net in (model, scaled))
    assert torch.equal(plain, large)
    assert len(plain.unique()) > 1


def test_images_on_which_the_model_says_nan_never_count_as_robust():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.cat([x.flatten(1)[:, :1] + 1, 0 * x.flatten(1)[:, :1]], 1)
            return torch.where(x.flatten(1)[:, 1:2] == 0.5, logits, torch.nan)  # NaN anywhere off the image

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="logits are NaN; no accuracy can be measured"):
        smallest_fooling_eps(Broken(), x, y, "linf", [0.1], weak(), seed=0)


@both_norms
def test_a_tie_at_the_top_is_an_error_everywhere(norm, linear, pixels, closed_form):
    """Two logits that end in a ReLU tie near the border, where the true class may be the first or the second."""
    inner, x = linear(2), pixels(150, 0.4, 0.6)
    y, half_width = predict(inner, x), 0.01
    model = Answers(inner, lambda logits: (logits - half_width).relu())
    weight = inner.weight[1] - inner.weight[0]
    dual = (weight.abs().sum() if norm == "linf" else weight.norm()).item()
    threshold = closed_form(inner, x, y, norm) - 2 * half_width / dual
    tied = (model(x) == 0).all(1)
    assert torch.equal(tied, threshold <= 0)
    assert set(y[tied].tolist()) == {0, 1}
    outcomes, checks = evaluate(model.eval(), x, y, norm, GRID[norm], strong(), n_robust=150, n_checked=150, seed=0)
    expected = [int((threshold > eps).sum()) for eps in (0.0, *GRID[norm])]
    assert [row["n_correct"] for row in outcomes.counts()] == [expected[0], *expected]
    assert torch.equal(outcomes.arrays()["correct"], ~tied)
    assert torch.equal(outcomes.fooling_eps == 0, tied[outcomes.indices])
    assert checks["std_acc"] == pytest.approx(expected[0] / 150)
    assert (~tied).sum() < 150


# ---- What it leaves and what it is given --------------------------------------------------------------------------


def test_the_model_is_left_as_it_was(norm_net, pixels):
    # trap 1, trap 3
    model, x, y = norm_net(), pixels(9), torch.arange(9) % 3
    state = {name: value.clone() for name, value in model.state_dict().items()}
    smallest_fooling_eps(model, x[:5], y[:5], "l2", [0.1], weak(), seed=0)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_uint8_and_unscaled_images_are_refused(linear):
    # trap 24, trap 30
    y = torch.zeros(2, dtype=torch.long)
    with pytest.raises(TypeError, match="expected x to be float"):
        attack(linear(2), torch.ones(2, 1, 6, 6, dtype=torch.uint8), y, threat_model("l2", 0.1), weak(), seed=0)
    with pytest.raises(ValueError, match=r"expected x in \[0, 1\]"):
        attack(linear(2), torch.full((2, 1, 6, 6), 255.0), y, threat_model("l2", 0.1), weak(), seed=0)


# fault: first ReLU in place changes the caller's images
@pytest.mark.parametrize("through", [lambda x: x, lambda x: x.data], ids=["recorded", "unrecorded"])
def test_a_model_that_changes_its_input_in_place_changes_no_result_and_no_image(through, linear, pixels):
    class Clamps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, x: Tensor) -> Tensor:
            through(x).clamp_(0.41, 0.59)  # a gradient that is zero in more pixels is masked
            return self.inner(x)

    class ClampsACopy(Clamps):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.clone())

    x = pixels(60, 0.4, 0.6)
    y = predict(ClampsACopy(), x)
    results = []
    for model in (Clamps().eval(), ClampsACopy().eval()):
        images, labels = x.clone(), y.clone()
        results.append(evaluate(model, images, labels, "linf", GRID["linf"], weak(), n_robust=60, n_checked=20, seed=0))
        assert torch.equal(images, x)
        assert torch.equal(labels, y)
    (outcomes, checks), (expected, expected_checks) = results
    assert checks == expected_checks
    assert torch.equal(outcomes.fooling_eps, expected.fooling_eps)
    assert torch.equal(outcomes.predicted, expected.predicted)
    images = x.clone()
    attack(Clamps(), images, y, threat_model("linf", 0.03), weak(), seed=0)
    smallest_fooling_eps(Clamps(), images, y, "linf", [0.03], weak(), seed=0)
    assert torch.equal(images, x)


# fault: int32 and uint8 labels
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32])
def test_labels_may_have_any_width(dtype, linear, pixels):
    model, x = linear(10), pixels(40)
    y, counts = torch.arange(40) % 10, {"n_robust": 20, "n_checked": 10, "seed": 0}
    expected, expected_checks = evaluate(model, x, y, "linf", [0.01], weak(), **counts)
    outcomes, checks = evaluate(model, x, y.to(dtype), "linf", [0.01], weak(), **counts)
    assert checks == expected_checks
    assert torch.equal(outcomes.fooling_eps, expected.fooling_eps)
    assert torch.equal(outcomes.y, y)
    args, attacked = ("linf", [0.01], weak()), expected.indices
    found = smallest_fooling_eps(model, x[attacked], y[attacked].to(dtype), *args, seed=0)
    assert torch.equal(found, expected.fooling_eps)


@both_norms
def test_the_attacked_images_are_those_of_the_order_by_index(norm, linear, pixels, closed_form):
    model, x, grid = linear(2), pixels(60, 0.4, 0.6), GRID[norm]
    y = torch.arange(60) % 2
    order = torch.arange(59, 19, -2)
    which = {"n_robust": 15, "n_checked": 40, "seed": 0, "order": order}
    outcomes, checks = evaluate(model, x, y, norm, grid, strong(), **which)
    threshold = closed_form(model, x, y, norm)
    assert torch.equal(outcomes.indices, order[:15])
    assert [row["n_correct"] for row in outcomes.counts()] == [
        int((threshold > 0).sum()),
        *(int((threshold[order[:15]] > eps).sum()) for eps in (0.0, *grid)),
    ]
    assert (outcomes.arrays()["indices"] == order[:15]).all()
    assert checks["n"] == len(order)
    assert checks["std_acc"] == pytest.approx((threshold[order] > 0).double().mean().item())


@pytest.mark.filterwarnings("ignore:the model answers class")
def test_without_an_order_two_models_are_attacked_on_the_same_balanced_sample(linear, norm_net, pixels):
    x, y = pixels(60), torch.arange(60) // 40
    results = [
        evaluate(model.eval(), x, y, "l2", [0.01], weak(), n_robust=9, n_checked=3, seed=seed)[0]
        for model, seed in ((linear(2), 0), (norm_net(n_classes=2), 0), (linear(2), 1))
    ]
    assert torch.equal(results[0].indices, results[1].indices)
    assert not torch.equal(results[0].indices, results[2].indices)
    assert [y[result.indices].sum() for result in results] == [3, 3, 3]
    whole, _ = evaluate(linear(2), x, y, "l2", [0.01], weak(), n_robust=99, n_checked=99, seed=0)
    assert sorted(whole.indices.tolist()) == list(range(60))


class DividesByTheBrightest(nn.Module):
    """The logits of `inner`, NaN on a black image."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        brightest = x.flatten(1).amax(1, keepdim=True)
        return self.inner(x) * (brightest / brightest)


def changed(index, value):
    return lambda tensor: torch.cat([tensor[:index], torch.full_like(tensor[:1], value), tensor[index + 1 :]])


UNIT = r"as images are in \[0, 1\]; 8/255 is 0\.0314, got"
GRID_OF_NUMBERS = r"expected eps_grid to be a list of numbers such as \[2 / 255, 8 / 255\], got"
ABOVE_0 = "expected every eps of the grid to be finite and above 0, got"
# What no attack can use: what is changed, the error, and its words. The faults of images are beyond `n_checked`.
UNUSABLE = {
    "eps in steps of 255": ({"eps_grid": [0.1, 8]}, ValueError, f"expected eps of at most 1 in linf, {UNIT} 8$"),
    "eps of half the steps": ({"eps_grid": [127.5]}, ValueError, f"expected eps of at most 1 in linf, {UNIT} 127.5$"),
    "eps beyond the box in l2": (
        {"norm": "l2", "eps_grid": [8.0]},
        ValueError,
        f"expected eps of at most 6 in l2, {UNIT} 8$",
    ),
    "eps 0": ({"eps_grid": [0.0, 0.1]}, ValueError, rf"{ABOVE_0} 0\.0; 0 is always measured"),
    "eps below 0": ({"eps_grid": [-0.1]}, ValueError, rf"{ABOVE_0} -0\.1"),
    "eps NaN": ({"eps_grid": [0.1, torch.nan]}, ValueError, f"{ABOVE_0} nan"),
    "eps infinite": ({"eps_grid": [torch.inf]}, ValueError, f"{ABOVE_0} inf"),
    "no eps": ({"eps_grid": []}, ValueError, "expected eps_grid to have at least one eps, .*, got none"),
    "one eps": ({"eps_grid": 0.1}, TypeError, rf"{GRID_OF_NUMBERS} 0\.1"),
    "eps as text": ({"eps_grid": ["8/255"]}, TypeError, rf"{GRID_OF_NUMBERS} \['8/255'\]"),
    "another norm": ({"norm": "l1"}, ValueError, "expected norm to be 'linf' or 'l2', got 'l1'"),
    "a share above 1": (
        {"settings": weak().model_copy(update={"restarts": [2.0]})},
        ValueError,
        r"Attack: expected restarts\.0: less than or equal to 1, got 2\.0",
    ),
    "queries of one norm": (
        {"settings": weak().model_copy(update={"n_queries": {"l2": 5}})},
        ValueError,
        r"Attack: expected n_queries: a number for each of l2, linf, got \{'l2': 5\}",
    ),
    "settings in a dict": ({"settings": {"n_steps": 40}}, TypeError, "expected settings to be an Attack, got dict"),
    "none attacked": ({"n_robust": 0}, ValueError, "expected n_robust of at least 1, got 0"),
    "none checked": ({"n_checked": 0}, ValueError, "expected n_checked of at least 1, got 0"),
    "an order of floats": ({"order": torch.ones(3)}, TypeError, r"int64 indices, got torch\.float32"),
    "an order in a list": ({"order": [0, 1]}, TypeError, "int64 indices, got list"),
    "an order of masks": ({"order": torch.ones(20) > 0}, TypeError, r"int64 indices, got torch\.bool"),
    "an index twice": ({"order": torch.tensor([3, 4, 3])}, ValueError, r"distinct indices .* got \[3\] from 3 to 4"),
    "an index beyond": ({"order": torch.tensor([3, 20])}, ValueError, r"from 0 to 19, got \[2\] from 3 to 20"),
    "an index below": ({"order": torch.tensor([-1, 3])}, ValueError, r"from 0 to 19, got \[2\] from -1 to 3"),
    "an order of none": ({"order": torch.tensor([], dtype=torch.long)}, ValueError, "from 0 to 19, got none"),
    "label -1": ({"y": changed(15, -1)}, ValueError, "expected labels from 0 on, got -1"),
    "label 3": ({"y": changed(15, 3)}, ValueError, "expected labels under 3, the number of logits, got .* up to 3"),
    "190 labels": ({"y": lambda y: y[:19]}, ValueError, "expected as many labels as images, got 20 images, 19 labels"),
    "float labels": ({"y": lambda y: y.float()}, TypeError, r"whole numbers, got torch\.float32; use y\.long\(\)"),
    "bool labels": ({"y": lambda y: y > 0}, TypeError, r"whole numbers, got torch\.bool; use y\.long\(\)"),
    "one-hot labels": (
        {"y": lambda y: torch.eye(3)[y]},
        ValueError,
        r"expected labels \[20\], got \[20, 3\]; use y\.argmax\(1\), if it is one-hot",
    ),
    "a column of labels": (
        {"y": lambda y: y[:, None]},
        ValueError,
        r"expected labels \[20\], got \[20, 1\]; use y\.flatten\(\)",
    ),
    "a list of labels": ({"y": lambda y: y.tolist()}, TypeError, r"y to be a torch\.Tensor, got list; use torch\.as"),
    "an array of images": ({"x": lambda x: x.numpy()}, TypeError, r"x to be a torch\.Tensor, got ndarray; use torch"),
    "a pixel above 1": ({"x": changed(15, 1.5)}, ValueError, r"expected x in \[0, 1\], got \[.*, 1\.5\]"),
    "a pixel below 0": ({"x": changed(15, -0.5)}, ValueError, r"expected x in \[0, 1\], got \[-0\.5, "),
    "a pixel NaN": ({"x": changed(15, torch.nan)}, ValueError, r"expected x in \[0, 1\], got NaN in 1 of 20 images"),
    "half precision": ({"x": lambda x: x.half()}, TypeError, r"x to be float32 or float64, got torch\.float16"),
    "double images": (
        {"x": lambda x: x.double()},
        TypeError,
        r"expected x of the model's type, torch\.float32, got torch\.float64; convert one of them",
    ),
    "double logits": (
        {"model": lambda model: Answers(model, Tensor.double)},
        TypeError,
        r"expected logits of the type of x, torch\.float32, got torch\.float64",
    ),
    "a tuple": (
        {"model": lambda model: Answers(model, lambda z: (z, z))},
        TypeError,
        r"one tensor of logits \[5, K\], got tuple; wrap the model to return its logits alone, such as output\[0\]",
    ),
    "a dict": (
        {"model": lambda model: Answers(model, lambda z: {"logits": z})},
        TypeError,
        r"one tensor of logits \[5, K\], got dict; .* or output\.logits",
    ),
    "no logits": (
        {"model": lambda model: Answers(model, lambda z: None)},
        TypeError,
        r"one tensor of logits \[5, K\], got NoneType; wrap the model",
    ),
    "a function": ({"model": lambda model: lambda x: model(x)}, TypeError, "is a torch.nn.Module, got function; wrap"),
    "images of another size": (
        {"x": lambda x: x[..., :5]},
        ValueError,
        r"expected a model that takes x \[5, 1, 6, 5\], got its error: .*cannot be multiplied",
    ),
    "sparse images": (
        {"x": Tensor.to_sparse},
        TypeError,
        r"x to be a dense tensor, got torch\.sparse_coo; use x\.to_d",
    ),
    "labels without values": ({"y": lambda y: y.to("meta")}, TypeError, "y to be a dense tensor, got one on the devi"),
    "eps True": ({"eps_grid": [True]}, TypeError, rf"{GRID_OF_NUMBERS} \[True\]"),
    "half an image": ({"n_robust": 2.5}, TypeError, r"expected n_robust to be a whole number, got 2\.5"),
    "a count as text": ({"n_checked": "5"}, TypeError, "expected n_checked to be a whole number, got '5'"),
    "absolute steps": (
        {"settings": weak().model_copy(update={"n_steps": 40, "step_size": 0.01})},
        ValueError,
        r"Attack: expected step_size: at least",
    ),
    "one small step": (
        {"settings": weak().model_copy(update={"n_steps": 1, "step_size": 0.1})},
        ValueError,
        r"Attack: expected n_steps: greater than or equal to 2, got 1",
    ),
    "steps backwards": (
        {"settings": weak().model_copy(update={"step_size": -1.0})},
        ValueError,
        r"Attack: expected step_size: greater than 0, got -1\.0",
    ),
    "losses": (
        {"settings": weak().model_copy(update={"losses": ["dlr"]})},
        ValueError,
        "Attack: .*losses",
    ),
    "NaN logits": (
        {"model": lambda model: Answers(model, lambda z: z * torch.nan)},
        FloatingPointError,
        "got NaN for 5 of 5 images: the model's logits are NaN",
    ),
    "NaN logits of one image": (
        {"model": DividesByTheBrightest, "x": changed(15, 0.0)},
        FloatingPointError,
        "got NaN for 1 of 20 images: the model's logits are NaN",
    ),
    "statistics of the batch": (
        {"model": lambda model: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), model)},
        ValueError,
        "expected running statistics in every batch normalisation, got none in 0",
    ),
}


# fault: a tuple, dict, None; float, one-hot, [N, 1] labels; NaN logits; labels shorter than images; float64 images
# fault: library eps 8; step_size absolute, one small step, negative; losses=["dlr"]
@pytest.mark.parametrize(("changes", "error", "words"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_no_attack_can_use_is_refused_in_one_line_before_any_attack(changes, error, words, linear, pixels):
    # trap 30
    given = {"model": linear(3), "x": pixels(20), "y": torch.arange(20) % 3, "other": linear(3)}
    given |= {"norm": "linf", "eps_grid": [0.01], "settings": weak(), "n_robust": 20, "n_checked": 5}
    given |= {"order": torch.arange(20)}  # so that what is wrong lies beyond the checked ones
    gradients = []
    given["model"].register_forward_pre_hook(lambda _, args: gradients.append(args[0].requires_grad))
    given |= {key: change(given[key]) if callable(change) else change for key, change in changes.items()}
    if isinstance(given["model"], nn.Module):
        given["model"].eval(), given["other"].eval()
    with pytest.raises(error, match=words) as caught:
        evaluate(**given, seed=0)
    assert "\n" not in str(caught.value)
    assert not any(gradients)


# fault: forward under no_grad
@pytest.mark.filterwarnings("ignore:the model answers class")
@pytest.mark.parametrize("cut", [torch.no_grad(), None], ids=["no_grad", "detach"])
def test_a_model_that_cuts_the_gradient_off_is_refused_in_one_line(cut, linear, pixels):
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear(3)

        def forward(self, x: Tensor) -> Tensor:
            with cut or nullcontext():
                return self.inner(x if cut else x.detach())

    model, x, y = Cut().eval(), pixels(20), torch.arange(20) % 3
    words = r"^expected logits with a gradient for x, got none; remove no_grad or detach from the model$"
    with pytest.raises(ValueError, match=words):
        evaluate(model, x, y, "linf", [0.01], weak(), n_robust=9, n_checked=9, seed=0)
    with pytest.raises(ValueError, match=words):
        attack(model, x, y, threat_model("linf", 0.01), weak(), seed=0)


HUGE = 10**30
STRANGE = (None, True, -1, 0, 2.5, "linf", b"", [], [None], {}, float("nan"), HUGE, object(), torch.tensor([]))
STRANGE += (torch.tensor(1.0), torch.ones(3, 3), torch.full((20,), 5), torch.ones(20, 1, 6, 6) * 1j, nn.Identity())
TAKES_IT = {"order": (None,), "other": (None,), "seed": (-1, 0, HUGE), "n_robust": (HUGE,), "n_checked": (HUGE,)}


# fault: fuzz of the library's evaluate
@given(st.data())
def test_evaluate_takes_what_it_can_and_refuses_the_rest_in_one_line(data):
    weight = torch.linspace(-1, 1, 3 * 36).reshape(3, 36)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    model[1].weight.data, model[1].bias.data = weight, torch.tensor([1.0, 0.0, -10.0])
    x, y = torch.linspace(0, 1, 20 * 36).reshape(20, 1, 6, 6), torch.arange(20) % 3
    given = {"model": model, "x": x, "y": y, "norm": "linf", "eps_grid": [0.001], "settings": weak()}
    given |= {"n_robust": 4, "n_checked": 4, "seed": 0, "order": None, "other": None}
    name = data.draw(st.sampled_from(sorted(given)))
    which = data.draw(st.integers(0, len(STRANGE) - 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluate(**{**given, name: STRANGE[which]})
    except (TypeError, ValueError) as error:
        assert re.match(r"(?!.*\n).*expected .*, got", str(error)), (name, STRANGE[which])
    except AssertionError as error:
        assert "not to be trusted" in str(error), (name, STRANGE[which])
    else:
        assert any(STRANGE[which] is each for each in TAKES_IT.get(name, ())), (name, STRANGE[which])


def test_the_attack_alone_refuses_the_same(linear, pixels):
    model, x, y = linear(3), pixels(20), torch.arange(20) % 3
    seen = asked(model)
    for refused in (
        lambda: attack(model, x, y, threat_model("linf", 8.0), weak(), seed=0),
        lambda: attack(model, x, y[:19], threat_model("linf", 0.1), weak(), seed=0),
        lambda: attack(model, x, y - 1, threat_model("linf", 0.1), weak(), seed=0),
        lambda: smallest_fooling_eps(model, x, y, "linf", [8.0], weak(), seed=0),
        lambda: smallest_fooling_eps(model, x, y, "linf", [], weak(), seed=0),
    ):
        with pytest.raises(ValueError, match=r"^expected .* got "):
            refused()
    assert not seen


def test_evaluate_stops_when_a_check_fails():
    """No step leads anywhere, and only the middle of the grid has starts that fool."""
    x, y = torch.full((40, 1, 1, 2), 0.5), torch.zeros(40, dtype=torch.long)
    with pytest.raises(AssertionError, match="robust accuracy rises with eps"):
        evaluate(Lottery((0.01, 0.03)).eval(), x, y, "linf", GRID["linf"], weak(), n_robust=40, n_checked=40, seed=0)


def test_evaluate_refuses_a_model_that_no_attack_can_use(linear, pixels):
    model, x = nn.Sequential(linear(3), nn.Softmax(1)).eval(), pixels(20)
    with pytest.raises(ValueError, match="got probabilities"):
        evaluate(model, x, predict(model, x), "linf", [0.01], strong(), n_robust=20, n_checked=20, seed=0)


def test_evaluate_looks_for_masking_in_the_middle_of_the_grid(linear, pixels):
    # trap 11
    model, x = linear(), pixels(40, 0.4, 0.6)
    args = (model, x, predict(model, x), "linf", GRID["linf"])
    with pytest.raises(AssertionError, match=r"at eps 0\.03 is not to be trusted: 100%"):
        evaluate(Lying(model, FLAT).eval(), *args[1:], strong(), n_robust=40, n_checked=40, seed=0)
    _, checks = evaluate(*args, strong(), n_robust=40, n_checked=40, seed=0)
    assert checks["masking_eps"] == 0.03
    assert checks["rob_acc"] < checks["masking_rob_acc"]  # the first at the largest eps
    assert "masking_transfer" not in checks
    _, checks = evaluate(*args, strong(), n_robust=40, n_checked=40, seed=0, other=linear())
    assert checks["masking_transfer"] == checks["masking_rob_acc"]


@both_norms
@pytest.mark.parametrize("change", [lambda z: z + 100 * torch.eye(10)[3], lambda z: 0 * z + 2 * torch.eye(10)[3]])
def test_a_model_of_one_class_is_measured_and_named(norm, change, linear, pixels):
    model, x, y = Answers(linear(10), change).eval(), pixels(100), torch.arange(100) % 10
    counts = {"n_robust": 100, "n_checked": 40, "seed": 0}
    with pytest.warns(UserWarning, match="the model answers class 3 for 100% of the images; not checked for"):
        outcomes, checks = evaluate(model, x, y, norm, GRID[norm], weak(), **counts)
    assert [row["n_correct"] for row in outcomes.counts()] == [10] * 5
    assert (checks["one_class"], checks["note"]) == (1.0, "answers class 3 for 100% of the images")
    assert not [name for name in checks if name.startswith("masking")]


def test_a_model_of_all_classes_has_no_note_and_is_checked(linear, pixels):
    model, x = linear(10), pixels(100)
    y = predict(model, x)
    _, checks = evaluate(model, x, y, "linf", [0.001], strong(), n_robust=9, n_checked=40, seed=0)
    assert checks["note"] == ""
    assert checks["one_class"] == pytest.approx(y.bincount().max().item() / 100)
    assert "masking_square" in checks


def test_nothing_is_transferred_from_a_model_of_one_class(linear, pixels):
    model, x = linear(10), pixels(100)
    y, other = predict(model, x), Answers(linear(10), lambda z: z + 100 * torch.eye(10)[3]).eval()
    args = (model, x, y, "linf", [0.001], strong())
    with pytest.warns(UserWarning, match="the other model answers class 3 for 100% of the images; no examples"):
        _, checks = evaluate(*args, n_robust=9, n_checked=40, seed=0, other=other)
    assert "masking_transfer" not in checks
    assert "masking_square" in checks


def test_a_shattered_gradient_stops_the_evaluation(linear, pixels):
    model, x = Sees(linear(), lambda z: z + 0.02 * torch.sin(1e4 * z)).eval(), pixels(60, 0.4, 0.6)
    args = (model, x, predict(model, x), "linf", GRID["linf"], strong())
    with pytest.raises(AssertionError, match="a shattered gradient"):
        evaluate(*args, n_robust=60, n_checked=60, seed=0)


# fault: a net that has no image of the sample right ends in "cannot reshape tensor of 0 elements"
def test_a_net_that_is_always_wrong_is_measured():
    net = nets.build("narrow_cnn_32", mean=[0.5] * 3, std=[0.2] * 3, seed=0, n_classes=3).eval()
    x = torch.rand(6, 3, 32, 32, generator=generator(0, "images"))
    y = (predict(net, x) + 1) % 3
    fooling = smallest_fooling_eps(net, x, y, "linf", [0.01], Attack.standard(), seed=0)
    assert fooling.tolist() == [0.0] * 6
    _, fooled = attack(net, x[:0], y[:0], threat_model("linf", 0.01), Attack.standard(), seed=0)
    assert not len(fooled)
