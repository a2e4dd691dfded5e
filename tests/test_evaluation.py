"""Robust accuracy against closed forms, and the checks that a broken attack must not pass."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from robacc import adversary, diagnostics, models
from robacc.adversary import Attack, attack, smallest_fooling_eps
from robacc.evaluation import evaluate
from robacc.models import predict
from robacc.norms import NORMS, Linf, ball

both_norms = pytest.mark.parametrize("norm", NORMS)
GRID = {"linf": [0.01, 0.03, 0.08], "l2": [0.05, 0.15, 0.3]}
WEAK = Attack(n_steps=3, step_size=0.5, losses=["cross_entropy"])
STRONG = Attack(n_steps=60, step_size=0.2, losses=["cross_entropy"])


# ---- Accuracy -----------------------------------------------------------------------------------------------------


@both_norms
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_robust_accuracy_of_the_linear_model_is_the_closed_form(norm, loss, linear, pixels, closed_form):
    # trap 19, trap 32
    model, x, y = linear(2), pixels(150, 0.4, 0.6), torch.arange(150) % 2
    threshold = closed_form(model, x, y, norm)
    settings = dataclasses.replace(STRONG, losses=[loss])
    outcome = smallest_fooling_eps(model, x, y, norm, GRID[norm], settings, seed=0)
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


@pytest.mark.parametrize("chunk", [1, 10, 100, 101, 500])
def test_accuracy_is_a_count_over_all_examples_whatever_the_chunk(chunk, linear, pixels, monkeypatch):
    # trap 31
    model, x, y = linear(10), pixels(101), torch.arange(101) % 10
    expected = model(x).argmax(1)
    for module in (models, adversary):
        monkeypatch.setattr(module, "CHUNK", chunk)
    assert torch.equal(predict(model, x), expected)
    outcomes, _ = evaluate(model, x, y, "linf", [0.01], WEAK, n_robust=7, n_checked=3, seed=0)
    standard, robust = outcomes.counts()
    assert standard == {"norm": "", "eps": 0.0, "n": 101, "n_correct": int((expected == y).sum())}
    assert (robust["norm"], robust["eps"], robust["n"]) == ("linf", 0.01, 7)
    assert robust["n_correct"] <= int((expected == y)[:7].sum())


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_the_chunk_does_not_change_an_attack_with_eps_zero(chunk, linear, pixels, monkeypatch):
    # trap 13
    model, x, y = linear(10), pixels(20), torch.arange(20) % 10
    for module in (models, adversary):
        monkeypatch.setattr(module, "CHUNK", chunk)
    x_adv, fooled = attack(model, x, y, ball("l2", 0.0), WEAK, seed=0)
    assert torch.equal(x_adv, x)
    assert torch.equal(fooled, predict(model, x) != y)


@both_norms
@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_the_chunk_does_not_change_what_a_converged_attack_finds(norm, chunk, linear, pixels, monkeypatch, closed_form):
    # trap 14
    model, x, y = linear(2), pixels(20, 0.4, 0.6), torch.arange(20) % 2
    expected = closed_form(model, x, y, norm) <= GRID[norm][1]
    for module in (models, adversary):
        monkeypatch.setattr(module, "CHUNK", chunk)
    _, fooled = attack(model, x, y, ball(norm, GRID[norm][1]), STRONG, seed=0)
    assert torch.equal(fooled, expected)


@both_norms
def test_robustly_correct_examples_are_correct_examples(norm, smooth_net, pixels):
    # trap 9, trap 21: an attack may turn a wrong prediction right; it still counts as wrong
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y = torch.arange(60) % 3
    right = predict(model, x) == y
    assert right.any()
    assert not right.all()
    outcome = smallest_fooling_eps(model, x, y, norm, GRID[norm], WEAK, seed=0)
    assert torch.equal(outcome == 0, ~right)
    assert set(outcome.tolist()) <= {0.0, torch.inf, *torch.tensor(GRID[norm], dtype=outcome.dtype).tolist()}


def test_a_wrong_example_stays_wrong_where_the_attack_would_make_it_right():
    # trap 21: wrong at 0.5 alone, right everywhere else, so every random start is a right answer
    class Pinhole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wrong = (x.flatten(1)[:, :1] == 0.5).float()
            return torch.cat([1 - wrong, wrong], 1) + 0 * x.flatten(1)[:, :1]

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    assert (smallest_fooling_eps(Pinhole(), x, y, "linf", [0.1, 0.2], WEAK, seed=0) == 0).all()


@both_norms
def test_robust_accuracy_falls_with_eps(norm, smooth_net, pixels):
    # trap 32
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y = predict(model, x)
    y[:10] = (y[:10] + 1) % 3
    grid = [8 * eps for eps in GRID[norm]]
    outcomes, _ = evaluate(model, x, y, norm, grid[::-1], WEAK, n_robust=60, n_checked=10, seed=0)
    correct = [row["n_correct"] for row in outcomes.counts()]
    assert correct == sorted(correct, reverse=True)
    assert correct[0] == 50
    assert correct[-1] < correct[1]
    assert [row["eps"] for row in outcomes.counts()] == [0.0, *grid]


def test_the_whole_box_leaves_no_robust_accuracy(linear, pixels):
    # trap 32
    model, x = linear(2), pixels(30)
    outcome = smallest_fooling_eps(model, x, predict(model, x), "linf", [1.0], STRONG, seed=0)
    assert torch.equal(outcome, torch.ones(30))


def test_scaled_logits_do_not_look_robust_to_the_margin_restart(linear, pixels):
    # trap 11
    model, x = linear(2), pixels(40, 0.4, 0.6)
    y = predict(model, x)
    settings = dataclasses.replace(STRONG, losses=["cross_entropy", "margin"])
    plain = smallest_fooling_eps(model, x, y, "linf", GRID["linf"], settings, seed=0)
    with torch.no_grad():
        model.weight *= 1000
        model.bias *= 1000
    scaled = smallest_fooling_eps(model, x, y, "linf", GRID["linf"], settings, seed=0)
    entropy_alone = smallest_fooling_eps(model, x, y, "linf", GRID["linf"], STRONG, seed=0)
    assert torch.equal(plain, scaled)
    assert entropy_alone.isinf().sum() > plain.isinf().sum()  # the masking is real


def test_images_on_which_the_model_says_nan_never_count_as_robust():
    """Either the evaluation stops with an error, or such an example counts as fooled."""

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.cat([x.flatten(1)[:, :1] + 1, 0 * x.flatten(1)[:, :1]], 1)
            return torch.where(x.flatten(1)[:, 1:2] == 0.5, logits, torch.nan)  # NaN anywhere off the image

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    try:
        outcome = smallest_fooling_eps(Broken(), x, y, "linf", [0.1], WEAK, seed=0)
    except (ValueError, FloatingPointError, AssertionError):
        return
    assert not outcome.isinf().any()


# ---- What it leaves and what it is given --------------------------------------------------------------------------


def test_the_model_is_left_as_it_was(norm_net, pixels):
    # trap 1, trap 3
    model, x, y = norm_net(), pixels(9), torch.arange(9) % 3
    state = {name: value.clone() for name, value in model.state_dict().items()}
    smallest_fooling_eps(model, x[:5], y[:5], "l2", [0.1], WEAK, seed=0)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_uint8_and_unscaled_images_are_refused(linear):
    # trap 24, trap 30
    y = torch.zeros(2, dtype=torch.long)
    with pytest.raises(TypeError, match="expected x to be float"):
        attack(linear(2), torch.ones(2, 1, 6, 6, dtype=torch.uint8), y, ball("l2", 0.1), WEAK, seed=0)
    with pytest.raises(ValueError, match=r"expected x in \[0, 1\]"):
        attack(linear(2), torch.full((2, 1, 6, 6), 255.0), y, ball("l2", 0.1), WEAK, seed=0)


def test_evaluate_stops_when_a_check_fails(linear, pixels, monkeypatch):
    monkeypatch.setattr(diagnostics, "ball", lambda _, eps: Linf(1.001 * eps))
    model, x = linear(2), pixels(20, 0.4, 0.6)
    with pytest.raises(AssertionError, match="exceed"):
        evaluate(model, x, predict(model, x), "linf", GRID["linf"], STRONG, n_robust=20, n_checked=20, seed=0)


def test_evaluate_refuses_a_model_that_no_attack_can_use(linear, pixels):
    model, x = nn.Sequential(linear(3), nn.Softmax(1)).eval(), pixels(20)
    with pytest.raises(ValueError, match="got probabilities"):
        evaluate(model, x, predict(model, x), "linf", [0.01], STRONG, n_robust=20, n_checked=20, seed=0)


def test_evaluate_looks_for_masking_in_the_middle_of_the_grid(linear, pixels):
    # trap 11
    model, x = linear(), pixels(40, 0.4, 0.6)
    args = (model, x, predict(model, x), "linf", GRID["linf"])
    with pytest.raises(AssertionError, match=r"at eps 0\.03 is not to be trusted: .* with scaled logits"):
        evaluate(*args, STRONG, n_robust=40, n_checked=40, seed=0)
    settings = dataclasses.replace(STRONG, losses=["margin"])
    _, checks = evaluate(*args, settings, n_robust=40, n_checked=40, seed=0)
    assert checks["masking_eps"] == 0.03
    assert checks["rob_acc"] < checks["masking_rob_acc"]  # the first at the largest eps
    assert "masking_transfer" not in checks
    _, checks = evaluate(*args, settings, n_robust=40, n_checked=40, seed=0, other=linear())
    assert checks["masking_transfer"] == checks["masking_rob_acc"]
