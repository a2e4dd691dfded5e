"""Robust accuracy against closed forms, and the checks that a broken attack must not pass."""

import pytest
import torch
from torch import Tensor, nn

from robacc.attack.adversary import attack, smallest_fooling_eps
from robacc.attack.diagnostics import Scaled
from robacc.attack.evaluation import evaluate
from robacc.attack.norms import threat_model
from robacc.nets.model import CHUNK, predict
from tests.made_up_attacks import GRID, Bands, both_norms, strong, weak

across_chunks = pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 1])


# ---- Accuracy -----------------------------------------------------------------------------------------------------


@both_norms
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_robust_accuracy_of_the_linear_model_is_the_closed_form(norm, loss, linear, pixels, closed_form):
    # trap 19, trap 32
    model, x, y = linear(2), pixels(150, 0.4, 0.6), torch.arange(150) % 2
    threshold = closed_form(model, x, y, norm)
    outcome = smallest_fooling_eps(model, x, y, norm, GRID[norm], strong(loss), seed=0)
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
    standard, robust = outcomes.counts()
    assert standard == {"norm": "", "eps": 0.0, "n": n, "n_correct": int((expected == y).sum())}
    assert (robust["norm"], robust["eps"], robust["n"]) == ("linf", 0.01, min(n, 7))
    assert robust["n_correct"] <= int((expected == y)[:7].sum())


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
    assert correct[0] == 50
    assert correct[-1] < correct[1]
    assert [row["eps"] for row in outcomes.counts()] == [0.0, *grid]


def test_the_whole_box_leaves_no_robust_accuracy(linear, pixels):
    # trap 32
    model, x = linear(2), pixels(30)
    outcome = smallest_fooling_eps(model, x, predict(model, x), "linf", [1.0], strong(), seed=0)
    assert torch.equal(outcome, torch.ones(30))


def test_scaled_logits_do_not_look_robust_to_the_margin_restart(linear, pixels):
    # trap 11
    model, x = linear(2), pixels(40, 0.4, 0.6)
    y, scaled = predict(model, x), Scaled(model, 1000.0)
    args = (x, y, "linf", GRID["linf"])
    plain = smallest_fooling_eps(model, *args, strong("cross_entropy", "margin"), seed=0)
    entropy_alone = smallest_fooling_eps(scaled, *args, strong(), seed=0)
    assert torch.equal(smallest_fooling_eps(scaled, *args, strong("cross_entropy", "margin"), seed=0), plain)
    assert entropy_alone.isinf().sum() > plain.isinf().sum()  # the masking is real


def test_images_on_which_the_model_says_nan_never_count_as_robust():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.cat([x.flatten(1)[:, :1] + 1, 0 * x.flatten(1)[:, :1]], 1)
            return torch.where(x.flatten(1)[:, 1:2] == 0.5, logits, torch.nan)  # NaN anywhere off the image

    x, y = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="logits are NaN; no accuracy can be measured"):
        smallest_fooling_eps(Broken(), x, y, "linf", [0.1], weak(), seed=0)


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


def test_evaluate_stops_when_a_check_fails():
    """No step leads anywhere, and only the middle of the grid has starts that fool."""
    x, y = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.long)
    with pytest.raises(AssertionError, match="robust accuracy rises with eps"):
        evaluate(Bands((0.01, 0.03)).eval(), x, y, "linf", GRID["linf"], weak(), n_robust=40, n_checked=40, seed=0)


def test_evaluate_refuses_a_model_that_no_attack_can_use(linear, pixels):
    model, x = nn.Sequential(linear(3), nn.Softmax(1)).eval(), pixels(20)
    with pytest.raises(ValueError, match="got probabilities"):
        evaluate(model, x, predict(model, x), "linf", [0.01], strong(), n_robust=20, n_checked=20, seed=0)


def test_evaluate_looks_for_masking_in_the_middle_of_the_grid(linear, pixels):
    # trap 11
    model, x = linear(), pixels(40, 0.4, 0.6)
    args = (model, x, predict(model, x), "linf", GRID["linf"])
    with pytest.raises(AssertionError, match=r"at eps 0\.03 is not to be trusted: .* with scaled logits"):
        evaluate(*args, strong(), n_robust=40, n_checked=40, seed=0)
    _, checks = evaluate(*args, strong("margin"), n_robust=40, n_checked=40, seed=0)
    assert checks["masking_eps"] == 0.03
    assert checks["rob_acc"] < checks["masking_rob_acc"]  # the first at the largest eps
    assert "masking_transfer" not in checks
    _, checks = evaluate(*args, strong("margin"), n_robust=40, n_checked=40, seed=0, other=linear())
    assert checks["masking_transfer"] == checks["masking_rob_acc"]
