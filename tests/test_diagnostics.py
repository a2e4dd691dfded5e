"""The checks that a broken attack, or a model that hides its gradient, must not pass."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robacc.attack import diagnostics
from robacc.attack.adversary import attack
from robacc.attack.diagnostics import check_attack, check_masking, check_model, zero_gradients
from robacc.attack.norms import Threat, threat_model
from robacc.attack.pgd import random_start
from robacc.nets.model import predict
from robacc.params import Attack
from robacc.seeding import generator
from tests.made_up_attacks import FLAT, GRID, REVERSED, Answers, Bands, Lying, asked, both_norms, strong, weak

# ---- The attack ---------------------------------------------------------------------------------------------------


def checked(model: nn.Module, x: Tensor, norm: str = "linf") -> dict[str, float]:
    return check_attack(model, x, predict(model, x), norm, GRID[norm], strong(), seed=0)[0]


@both_norms
def test_a_sound_attack_passes_its_checks(norm, linear, pixels, closed_form):
    model, x = linear(2), pixels(30, 0.4, 0.6)
    measured = checked(model, x, norm)
    expected = (closed_form(model, x, predict(model, x), norm) > GRID[norm][-1]).double().mean().item()
    assert measured["rob_acc"] == pytest.approx(expected)
    assert (measured["n"], measured["std_acc"]) == (30, 1.0)
    assert measured["largest_excess"] <= 1e-6


def test_an_attack_of_images_with_zeros_and_ones_passes_its_checks(linear, edge_pixels):
    assert checked(linear(2), edge_pixels)["std_acc"] == 1.0


@both_norms
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda x, x_adv, eps: x + 1.001 * (x_adv - x), "exceed the ball", id="too wide by a thousandth"),
        pytest.param(lambda x, x_adv, eps: x_adv + 1e-7 * (x_adv == 1), r"leave \[0, 1\]", id="no clip above"),
        pytest.param(lambda x, x_adv, eps: x_adv - 1e-7 * (x_adv == 0), r"leave \[0, 1\]", id="no clip below"),
        pytest.param(lambda x, x_adv, eps: x_adv.index_fill(0, torch.tensor([3]), torch.nan), "not finite", id="nan"),
        pytest.param(
            lambda x, x_adv, eps: x_adv if eps else (1 - 1e-7) * x_adv, r"eps 0(\.0 exceed| changes)", id="eps 0"
        ),
    ],
)
def test_a_broken_attack_is_found(norm, change, message, linear, pixels, edge_pixels, monkeypatch):
    # trap 4, trap 5, trap 12, trap 13
    def broken(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, settings: Attack, *, seed: int):
        x_adv, fooled = attack(model, x, y, threat, settings, seed=seed)
        return change(x, x_adv, threat.eps), fooled

    monkeypatch.setattr(diagnostics, "attack", broken)  # nothing else makes our attack wrong
    with pytest.raises(AssertionError, match=message):
        checked(linear(2), torch.cat([edge_pixels, pixels(20, 0.4, 0.6)]), norm)


def test_a_success_that_is_none_is_found(linear, pixels):
    # trap 8: an answer depends on the rest of the batch, which fooled examples leave
    model = Answers(linear(2), lambda logits: logits - logits.mean(0))
    with pytest.raises(AssertionError, match=r"success at linf eps .* is not what the model says"):
        checked(model, pixels(20, 0.4, 0.6))


def test_a_robust_accuracy_that_rises_with_eps_is_found():
    # trap 32: no step leads anywhere, and only the smaller ball has starts that fool
    with pytest.raises(AssertionError, match="robust accuracy rises with eps"):
        checked(Bands((0.0, 0.03)), torch.full((40, 1, 1, 1), 0.5))


# ---- The model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z.softmax(1), "expected logits, got probabilities"),
        (
            lambda z: z + torch.rand(()),
            "expected the same logits from two calls, got a difference of .*: a random model",
        ),
        (lambda z: z[:, :2], "expected labels under 2, the number of logits, got labels up to 2"),
        (lambda z: z[:, 0], r"expected logits \[20, K\] of K >= 2 classes, got \(20,\)"),
        (lambda z: z[:, :1], r"expected logits \[20, K\] of K >= 2 classes, got \(20, 1\)"),
        (lambda z: z[:3], r"expected logits \[20, K\] of K >= 2 classes, got \(3, 3\)"),
        (lambda z: 0 * z + torch.eye(3)[0], "depend on the image, got the same for all 20: a constant model"),
        (lambda z: z - z.mean(0), "depend on their own image alone, got a difference of .* in another batch"),
    ],
)
def test_a_model_that_no_attack_can_use_is_named(change, message, linear, pixels):
    # trap 33
    x, y = pixels(20), torch.arange(20) % 3
    check_model(linear(3).eval(), x, y)
    with pytest.raises(ValueError, match=message):
        check_model(Answers(linear(3), change).eval(), x, y)


def test_a_model_in_training_mode_is_named(norm_net, pixels):
    # trap 1, trap 2
    model, x, y = norm_net().eval(), pixels(6), torch.arange(6) % 3
    check_model(model, x, y)
    model.features[3].train()  # one module is enough
    with pytest.raises(ValueError, match=r"got one in training mode; call model\.eval\(\) first"):
        check_model(model, x, y)


def test_statistics_of_the_batch_in_evaluation_mode_are_named(linear, pixels):
    # trap 2
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), linear(3)).eval()
    with pytest.raises(ValueError, match=r"expected running statistics .* got none in 0, .*; train with track_running"):
        check_model(model, pixels(6), torch.arange(6) % 3)


@pytest.mark.parametrize("n", [1, 5])
def test_equal_images_may_have_equal_logits(n, linear, pixels):
    check_model(linear().eval(), pixels(1).expand(n, -1, -1, -1), torch.zeros(n, dtype=torch.long))


@pytest.mark.parametrize(("n_images", "n_labels"), [(0, 0), (3, 4)])
def test_labels_that_do_not_match_are_refused(n_images, n_labels, linear, pixels):
    with pytest.raises(ValueError, match=f"got {n_images} images, {n_labels} labels"):
        check_model(linear().eval(), pixels(5)[:n_images], torch.zeros(n_labels, dtype=torch.long))


# ---- Masking ------------------------------------------------------------------------------------------------------


@pytest.fixture
def between(linear, pixels, closed_form) -> Callable[[float, float], tuple[Tensor, Tensor]]:
    """Give between(low, high): images whose smallest fooling eps in linf lies between the two, and their labels."""

    def find(low: float, high: float) -> tuple[Tensor, Tensor]:
        x = pixels(400, 0.4, 0.6)
        y = predict(linear(), x)
        threshold = closed_form(linear(), x, y, "linf")
        found = (low < threshold) & (threshold < high)
        assert found.sum() > 10
        return x[found], y[found]

    return find


def masking(model: nn.Module, x: Tensor, y: Tensor, settings: Attack, eps: float = 0.03, **kwargs):
    _, fooled = attack(model, x, y, threat_model("linf", eps), settings, seed=0)
    return check_masking(model, x, y, "linf", eps, settings, fooled=fooled, seed=0, **kwargs)


@both_norms
def test_an_honest_model_passes_and_its_measures_are_the_closed_form(norm, linear, pixels, closed_form):
    # trap 10, trap 32
    model, x = linear(), pixels(40, 0.4, 0.6)
    y = predict(model, x)
    settings = strong(2)
    eps = GRID[norm][1]
    _, fooled = attack(model, x, y, threat_model(norm, eps), settings, seed=0)
    measured = check_masking(model, x, y, norm, eps, settings, fooled=fooled, seed=0, other=linear())
    expected = (closed_form(model, x, y, norm) > eps).double().mean().item()
    assert 0 < expected < 1
    same = ("rob_acc", "more_steps", "more_restarts", "transfer")
    assert [measured[name] for name in same] == pytest.approx([expected] * len(same))
    assert (measured["zero_gradients"], measured["huge_eps"], measured["eps"]) == (0.0, 0.0, eps)


def test_zero_gradients_are_counted_example_by_example(linear, pixels):
    # trap 10
    model, x = linear(), pixels(10)

    class Half(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.cat([model(z[:4].detach() + 0 * z[:4]), model(z[4:])])

    assert zero_gradients(Half(), x, torch.zeros(10, dtype=torch.long)) == pytest.approx(0.4)


def test_a_model_without_gradient_is_found(linear, pixels):
    # trap 10
    model, x = Lying(linear(), FLAT), pixels(20, 0.4, 0.6)
    with pytest.raises(AssertionError, match=r"100% of the gradients are exactly zero"):
        masking(model, x, predict(model, x), strong())


def test_an_attack_that_stops_too_early_is_found(linear, between):
    # trap 32: the steps reach eps from the image, but not from most starts
    with pytest.raises(AssertionError, match=r"1\.000 at eps 0\.02 .* 0\.000 with more steps"):
        masking(linear(), *between(0.0175, 0.0195), weak(n_steps=10, step_size=0.2), eps=0.02)


def test_where_every_example_is_fooled_nothing_is_left_for_stronger_attacks(linear, pixels):
    model, x = linear(), pixels(10, 0.4, 0.6)
    measured = masking(model, x, predict(model, x), strong(), eps=1.0)
    assert (measured["rob_acc"], measured["more_steps"], measured["more_restarts"]) == (0.0, 0.0, 0.0)


def test_a_gradient_that_lies_is_found_by_transfer(linear, between):
    # trap 32: fooled at 0.03, but not by a random start
    with pytest.raises(AssertionError, match="by transfer from another model; it masks its gradient"):
        masking(Lying(linear(), REVERSED).eval(), *between(0.015, 0.025), strong(), other=linear())


def test_a_gradient_that_lies_is_found_in_the_whole_box(linear, pixels):
    # trap 32
    inner = linear()
    with torch.no_grad():
        inner.bias += 0.3 * torch.tensor([-0.5, 0.5]) * (inner.weight[1] - inner.weight[0]).abs().sum()
    x = pixels(40, 0.4, 0.6)
    y = predict(inner, x)
    assert (y == 1).all()  # as is nearly all of the box, but not all
    assert masking(inner, x, y, strong())["huge_eps"] == 0
    with pytest.raises(AssertionError, match="where every image is allowed, above chance"):
        masking(Lying(inner, REVERSED).eval(), x, y, strong())


def test_an_attack_that_lives_on_luck_is_found():
    # trap 7: one start in ten fools. Other starts meet what was left, and never give up
    class Lottery(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            idle = x.flatten(1)[:, 1:]  # all that the gradient is about
            return Bands((0.027, 0.03))(x.detach()) + torch.cat([0 * idle, 1e-3 * idle], 1)

    model, x, y = Lottery().eval(), torch.full((200, 1, 1, 2), 0.5), torch.zeros(200, dtype=torch.long)
    threat, settings = threat_model("linf", 0.03), weak(8, share=0.5)
    _, fooled = attack(model, x, y, threat, settings, seed=0)
    left = x[~fooled]
    assert 160 < len(left) < 200
    seen = asked(model)
    own = f"{len(left) / 200:.3f}"
    with pytest.raises(
        AssertionError, match=rf"{own} at eps 0\.03 .* 0\.\d+ with more restarts; add restarts of share 0"
    ):
        check_masking(model, x, y, "linf", 0.03, settings, fooled=fooled, seed=0)
    start = seen[2]  # after the gradient, and the images
    assert torch.equal(start, random_start(left, threat, generator(1, "attack", 0, 0)))
