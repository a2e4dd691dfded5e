"""The checks that a broken attack, or a model that hides its gradient, must not pass."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robacc import adversary, diagnostics
from robacc.adversary import Attack, attack
from robacc.diagnostics import check_attack, check_masking, check_model, zero_gradients
from robacc.models import predict
from robacc.norms import L2, NORMS, Linf, ball

both_norms = pytest.mark.parametrize("norm", NORMS)
GRID = {"linf": [0.01, 0.03, 0.08], "l2": [0.05, 0.15, 0.3]}
STRONG = Attack(n_steps=60, step_size=0.2, losses=["cross_entropy"])


# ---- The attack ---------------------------------------------------------------------------------------------------


def checked(model: nn.Module, x: Tensor, norm: str = "linf") -> dict[str, float]:
    return check_attack(model, x, predict(model, x), norm, GRID[norm], STRONG, seed=0)[0]


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


class WideLinf(Linf):
    def project(self, delta: Tensor) -> Tensor:
        return 1.001 * super().project(delta)


class WideL2(L2):
    def project(self, delta: Tensor) -> Tensor:
        return 1.001 * super().project(delta)


@pytest.mark.parametrize(("norm", "wide"), [("linf", WideLinf), ("l2", WideL2)])
def test_a_ball_too_wide_by_a_thousandth_is_found(norm, wide, linear, pixels, monkeypatch):
    # trap 5
    monkeypatch.setattr(diagnostics, "ball", lambda _, eps: wide(eps))
    with pytest.raises(AssertionError, match="exceed the ball"):
        checked(linear(2), pixels(20, 0.4, 0.6), norm)


def test_a_missing_clip_is_found(linear, edge_pixels, monkeypatch):
    # trap 4
    monkeypatch.setattr(adversary, "feasible", lambda x_adv, x, threat: x + threat.project(x_adv - x))
    with pytest.raises(AssertionError, match=r"leave \[0, 1\]"):
        checked(linear(2), edge_pixels)


def patched(monkeypatch: pytest.MonkeyPatch, change: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Replace the attack by change(x, threat, x_adv, fooled)."""

    def broken(model: nn.Module, x: Tensor, y: Tensor, threat: Linf | L2, settings: Attack, *, seed: int):
        return change(x, threat, *attack(model, x, y, threat, settings, seed=seed))

    monkeypatch.setattr(diagnostics, "attack", broken)


def test_a_nan_is_found(linear, pixels, monkeypatch):
    # trap 12
    patched(monkeypatch, lambda x, threat, x_adv, fooled: (x_adv.index_fill(0, torch.tensor([3]), torch.nan), fooled))
    with pytest.raises(AssertionError, match="are not finite"):
        checked(linear(2), pixels(20, 0.4, 0.6))


def test_a_change_with_eps_zero_is_found(linear, pixels, monkeypatch):
    # trap 13
    patched(monkeypatch, lambda x, threat, x_adv, fooled: (x_adv + 6e-8 if threat.eps == 0 else x_adv, fooled))
    with pytest.raises(AssertionError, match="eps 0 changes the images"):
        checked(linear(2), pixels(20, 0.4, 0.6))


def test_a_success_that_is_none_is_found(linear, pixels, monkeypatch):
    # trap 8
    patched(monkeypatch, lambda x, threat, x_adv, fooled: (x_adv, fooled.index_fill(0, torch.tensor([0]), True)))
    with pytest.raises(AssertionError, match=r"success at linf eps 0\.0 is not what the model says"):
        checked(linear(2), pixels(20, 0.4, 0.6))


def test_a_robust_accuracy_that_rises_with_eps_is_found(linear, pixels, monkeypatch):
    # trap 32
    last = GRID["linf"][-1]

    def lazy(x: Tensor, threat: Linf, x_adv: Tensor, fooled: Tensor) -> tuple[Tensor, Tensor]:
        return (x, torch.zeros_like(fooled)) if threat.eps == last else (x_adv, fooled)

    patched(monkeypatch, lazy)
    with pytest.raises(AssertionError, match="robust accuracy rises with eps"):
        checked(linear(2), pixels(20, 0.4, 0.6))


# ---- The model ----------------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """A model that gives the logits of `inner` through `change`."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z.softmax(1), "expected logits, got probabilities"),
        (
            lambda z: z + torch.rand(()),
            "expected the same logits from two calls, got a difference of .*: a random model",
        ),
        (lambda z: z[:, :2], r"expected logits \[20, K\] and labels under K, got \(20, 2\) and labels up to 2"),
        (lambda z: z[:, 0], r"expected logits \[20, K\] and labels under K, got \(20,\)"),
        (lambda z: z[:3], r"expected logits \[20, K\] and labels under K, got \(3, 3\)"),
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


@pytest.mark.parametrize(("n_images", "n_labels"), [(0, 0), (3, 4)])
def test_labels_that_do_not_match_are_refused(n_images, n_labels, linear, pixels):
    with pytest.raises(ValueError, match=f"got {n_images} images, {n_labels} labels"):
        check_model(linear().eval(), pixels(5)[:n_images], torch.zeros(n_labels, dtype=torch.long))


# ---- Masking ------------------------------------------------------------------------------------------------------


class Lying(torch.autograd.Function):
    """The identity with `factor` times its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * grad, None


FLAT, REVERSED = 0.0, -1.0  # what rounding the input does to an attack; a gradient that leads it the wrong way


class Hidden(nn.Module):
    """`inner` behind an identity whose gradient lies."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(Lying.apply(x, self.factor))


def masking(model: nn.Module, x: Tensor, y: Tensor, settings: Attack = STRONG, eps: float = 0.03, **kwargs):
    _, fooled = attack(model, x, y, Linf(eps), settings, seed=0)
    return check_masking(model, x, y, "linf", eps, settings, fooled=fooled, seed=0, **kwargs)


@both_norms
def test_an_honest_model_passes_and_its_measures_are_the_closed_form(norm, linear, pixels, closed_form):
    # trap 10, trap 32
    model, x = linear(), pixels(40, 0.4, 0.6)
    y = predict(model, x)
    settings = dataclasses.replace(STRONG, losses=["cross_entropy", "margin"])
    eps = GRID[norm][1]
    _, fooled = attack(model, x, y, ball(norm, eps), settings, seed=0)
    measured = check_masking(model, x, y, norm, eps, settings, fooled=fooled, seed=0, other=linear())
    expected = (closed_form(model, x, y, norm) > eps).double().mean().item()
    assert 0 < expected < 1
    same = ("rob_acc", "more_steps", "more_restarts", "scaled", "transfer")
    assert [measured[name] for name in same] == pytest.approx([expected] * len(same))
    assert (measured["zero_gradients"], measured["huge_eps"], measured["eps"]) == (0.0, 0.0, eps)


def test_zero_gradients_are_counted_example_by_example(linear, pixels):
    # trap 10
    model, x = linear(), pixels(10)

    class Half(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.cat([model(z[:4].detach() + 0 * z[:4]), model(z[4:])])

    assert zero_gradients(Half(), x, torch.zeros(10, dtype=torch.long), ["cross_entropy"]) == pytest.approx(0.4)


def test_a_model_without_gradient_is_found(linear, pixels):
    # trap 10
    model, x = Hidden(linear(), FLAT), pixels(20, 0.4, 0.6)
    with pytest.raises(AssertionError, match=r"100% of the gradients are exactly zero"):
        masking(model, x, predict(model, x))


def test_an_attack_that_stops_too_early_is_found(linear, pixels):
    # trap 32: the steps are far too short for eps
    model, x = linear(), pixels(40, 0.4, 0.6)
    short = Attack(n_steps=10, step_size=0.03, losses=["margin"])
    with pytest.raises(AssertionError, match="with more steps; raise n_steps"):
        masking(model, x, predict(model, x), short)


def test_where_every_example_is_fooled_nothing_is_left_for_stronger_attacks(linear, pixels):
    model, x = linear(), pixels(10, 0.4, 0.6)
    settings = dataclasses.replace(STRONG, losses=["margin"])
    measured = masking(model, x, predict(model, x), settings, eps=1.0)
    assert (measured["rob_acc"], measured["more_steps"], measured["more_restarts"]) == (0.0, 0.0, 0.0)


def test_a_loss_that_underflows_is_found(linear, pixels):
    # trap 11
    model, x = linear(), pixels(40, 0.4, 0.6)
    with pytest.raises(AssertionError, match="with scaled logits; add the margin loss"):
        masking(model, x, predict(model, x))
    masking(model, x, predict(model, x), dataclasses.replace(STRONG, losses=["margin"]))


def test_a_gradient_that_lies_is_found_by_transfer(linear, pixels, closed_form):
    # trap 32
    model, x = Hidden(linear(), REVERSED).eval(), pixels(200, 0.4, 0.6)
    threshold = closed_form(linear(), x, predict(model, x), "linf")
    x = x[(threshold > 0.015) & (threshold < 0.025)]  # fooled at 0.03, but not by a random start
    assert len(x) > 10
    settings = dataclasses.replace(STRONG, losses=["margin"])
    with pytest.raises(AssertionError, match="by transfer from another model; it masks its gradient"):
        masking(model, x, predict(model, x), settings, other=linear())


def test_a_gradient_that_lies_is_found_in_the_whole_box(linear, pixels):
    # trap 32
    inner = linear()
    with torch.no_grad():
        inner.bias += 0.3 * torch.tensor([-0.5, 0.5]) * (inner.weight[1] - inner.weight[0]).abs().sum()
    x = pixels(40, 0.4, 0.6)
    y = predict(inner, x)
    assert (y == 1).all()  # as is nearly all of the box, but not all
    settings = dataclasses.replace(STRONG, losses=["margin"])
    assert masking(inner, x, y, settings)["huge_eps"] == 0
    with pytest.raises(AssertionError, match="where every image is allowed, above chance"):
        masking(Hidden(inner, REVERSED).eval(), x, y, settings)


def test_an_attack_that_lives_on_luck_is_found(monkeypatch, linear, pixels):
    # trap 7: other starts fool other examples. They meet what was left, and never give up
    model, x = linear(), pixels(40, 0.4, 0.6)
    y, settings = predict(model, x), dataclasses.replace(STRONG, losses=["margin"], give_up_below=0.5)
    left = len(x) - int(attack(model, x, y, Linf(0.01), settings, seed=0)[1].sum())
    asked = []

    def lucky(model: nn.Module, x: Tensor, y: Tensor, threat: Linf, settings: Attack, *, seed: int):
        asked.append((len(x), settings.n_steps, settings.give_up_below, seed))
        x_adv, fooled = attack(model, x, y, threat, settings, seed=0)
        return x_adv, fooled | (settings.give_up_below is None)

    monkeypatch.setattr(diagnostics, "attack", lucky)
    with pytest.raises(AssertionError, match=r"0\.000 with more restarts; add losses"):
        masking(model, x, y, settings, eps=0.01)
    assert 4 < left < len(x)
    assert asked[:2] == [(left, 3 * STRONG.n_steps, 0.5, 1), (left, STRONG.n_steps, None, 1)]
