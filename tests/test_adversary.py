"""The adversary of evaluation: what it keeps, and restarts that add."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from robacc import adversary
from robacc.adversary import LOSSES, Attack, attack, margin, smallest_fooling_eps, strongest
from robacc.attacks import cross_entropy, input_gradient, pgd, random_start
from robacc.models import predict
from robacc.norms import NORMS, Linf, ball
from robacc.seeding import generator

both_norms = pytest.mark.parametrize("norm", NORMS)
EPS = {"linf": 0.1, "l2": 0.3}
WEAK = Attack(n_steps=3, step_size=0.5, losses=["cross_entropy"])


# ---- Losses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 9, 10])
def test_margin_is_positive_exactly_where_the_model_is_wrong(n_classes):
    # trap 33
    logits = torch.randn(500, n_classes, generator=generator(0))
    y = torch.randint(n_classes, (500,), generator=generator(1))
    assert torch.equal(margin(logits, y) > 0, logits.argmax(1) != y)
    others = [max(v for k, v in enumerate(row) if k != label) for row, label in zip(logits.tolist(), y, strict=True)]
    expected = torch.tensor(others) - logits[torch.arange(500), y]
    torch.testing.assert_close(margin(logits, y), expected)


def test_margin_works_where_the_cross_entropys_gradient_is_exactly_zero(linear, pixels):
    # trap 11
    model, x = linear(2), pixels(40, 0.4, 0.6)
    with torch.no_grad():
        y = model(x).argmax(1)  # all right
        model.weight *= 1000
        model.bias *= 1000
    threat, steps = ball("linf", 0.1), {"start": x, "n_steps": 10, "step_size": 0.025}
    grad, _ = input_gradient(model, x, y, cross_entropy)
    stuck = grad.flatten(1).abs().amax(1) == 0
    assert stuck.any()
    _, by_entropy = strongest(model, x, y, threat, **steps, loss=cross_entropy)
    _, by_margin = strongest(model, x, y, threat, **steps, loss=margin)
    assert (by_entropy[stuck] < 0).all()
    assert (by_margin > 0).all()


# ---- Which iterate is kept ----------------------------------------------------------------------------------------


class Scripted(nn.Module):
    """Returns the k-th logits of a script at its k-th call, and a gradient that moves the point by one step."""

    def __init__(self, script: list[list[float]]) -> None:
        super().__init__()
        self.script, self.calls = torch.tensor(script), 0

    def forward(self, x: Tensor) -> Tensor:
        logits = self.script[self.calls].expand(len(x), -1).clone()
        self.calls += 1
        push = (x - x.detach()).flatten(1).sum(1)  # value 0, gradient 1
        return torch.cat([logits[:, :1], logits[:, 1:] + push[:, None]], 1)


WRONG = [0.0, 0.2, *[-9.0] * 8]  # misclassified, cross-entropy 0.80
RIGHT = [0.13, *[0.0] * 9]  # correctly classified, cross-entropy 2.19
SURE = [9.0, *[0.0] * 9]


def kept(script: list[list[float]]) -> tuple[int, float]:
    """Return which iterate of the script `strongest` keeps, and its margin."""
    x, y = torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    steps = {"start": x, "n_steps": len(script) - 1, "step_size": 0.05}
    best, found = strongest(Scripted(script), x, y, ball("linf", 0.4), **steps, loss=cross_entropy)
    return round(float((best - x) / 0.05)), found.item()


def test_a_success_beats_a_larger_loss():
    # trap 8
    y = torch.zeros(2, dtype=torch.long)
    wrong, right = cross_entropy(torch.tensor([WRONG, RIGHT]), y)
    assert wrong < right
    assert kept([RIGHT, WRONG, RIGHT]) == (1, pytest.approx(0.2))
    assert kept([WRONG, RIGHT, RIGHT]) == (0, pytest.approx(0.2))


def test_the_last_iterate_counts():
    assert kept([SURE, RIGHT, WRONG]) == (2, pytest.approx(0.2))


def test_without_success_the_iterate_nearest_to_it_is_kept():
    # trap 9
    assert kept([SURE, RIGHT, SURE]) == (1, pytest.approx(-0.13))


def test_an_overshooting_attack_keeps_its_success():
    # trap 9: wrong only in a valley narrower than the step; the start lies in it, the last iterate does not
    class Valley(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            true_logit = (x.flatten(1) - 0.5).abs() - 0.05
            return torch.cat([true_logit, torch.zeros_like(true_logit)], 1)

    x, y, threat = torch.full((1, 1, 1, 1), 0.47), torch.zeros(1, dtype=torch.long), ball("linf", 0.4)
    steps = {"start": x, "n_steps": 1, "step_size": 0.2}
    last = pgd(Valley(), x, y, threat, **steps)
    assert Valley()(last).argmax(1) == y
    best, found = strongest(Valley(), x, y, threat, **steps, loss=cross_entropy)
    assert found > 0
    assert Valley()(best).argmax(1) != y


@both_norms
def test_the_margin_returned_is_that_of_the_examples_returned(norm, smooth_net, pixels):
    model, x, y, threat = smooth_net(), pixels(30, dtype=torch.float64), torch.arange(30) % 3, ball(norm, EPS[norm])
    start = random_start(x, threat, generator(0))
    best, found = strongest(model, x, y, threat, start=start, n_steps=5, step_size=0.05, loss=cross_entropy)
    assert (found > 0).any()
    assert (found < 0).any()
    torch.testing.assert_close(found, margin(model(best), y).detach(), rtol=0, atol=1e-12)
    assert (found >= margin(model(start), y)).all()


def test_a_fooled_example_leaves_the_batch(linear, pixels):
    model, x = linear(2), pixels(10)
    y = 1 - model(x).argmax(1)  # all wrong from the start
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    y[0] = 1 - y[0]  # but the first, which steps of length 0 leave as it is
    strongest(model, x, y, ball("l2", 0.1), start=x, n_steps=3, step_size=0.0, loss=cross_entropy)
    assert sizes == [10, 1, 1, 1]


# ---- Restarts -----------------------------------------------------------------------------------------------------


class Doors(nn.Module):
    """Of label 0; images whose second pixel is 0 are fooled only far right, the others only far left."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.flatten(1)[:, :1], x.flatten(1)[:, 1:2]
        wrong = torch.where(second < 0.4, first > 0.6, first < 0.4).float()
        return torch.cat([1 - wrong, wrong], 1) + 0 * first


def test_restarts_complement_each_other(monkeypatch):
    # trap 7: the first start fools only A, the second only B
    x = torch.tensor([[0.5, 0.2], [0.5, 0.8]]).reshape(2, 1, 1, 2)
    shifts = iter([0.2, -0.2])

    def start(x: Tensor, *_: object) -> Tensor:
        shift = next(shifts)
        return x + torch.tensor([shift, 0.0])

    monkeypatch.setattr(adversary, "random_start", start)
    settings = Attack(n_steps=1, step_size=0.0, losses=["cross_entropy", "cross_entropy"])
    x_adv, fooled = attack(Doors(), x, torch.zeros(2, dtype=torch.long), ball("linf", 0.3), settings, seed=0)
    assert fooled.tolist() == [True, True]
    torch.testing.assert_close(x_adv[:, 0, 0, 0], torch.tensor([0.7, 0.3]))


@both_norms
def test_more_restarts_never_help_the_defender(norm, smooth_net, pixels):
    # trap 7, trap 32
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y, threat = predict(model, x), ball(norm, {"linf": 0.2, "l2": 0.8}[norm])
    found = []
    for n in (1, 2, 4):
        settings = Attack(n_steps=1, step_size=0.2, losses=["cross_entropy"] * n)
        found.append(attack(model, x, y, threat, settings, seed=0)[1])
    assert not (found[0] & ~found[1]).any()
    assert not (found[1] & ~found[2]).any()
    assert 0 < found[0].sum() < found[2].sum() < 60


def test_every_restart_has_its_own_start_and_the_seed_decides_it(linear, pixels, monkeypatch):
    # trap 25
    starts: list[Tensor] = []

    def record(*args: object) -> Tensor:
        starts.append(random_start(*args))
        return starts[-1]

    model, x = linear(2), pixels(6)
    monkeypatch.setattr(adversary, "random_start", record)
    settings = Attack(n_steps=1, step_size=1.0, losses=["cross_entropy"] * 2)
    for seed in (0, 0, 1):
        attack(model, x, predict(model, x), ball("l2", 1e-3), settings, seed=seed)
    first, second, again, _, other, _ = starts
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_restart_uses_its_loss_and_steps_in_shares_of_eps(linear, pixels, monkeypatch):
    # trap 23
    calls: list[dict] = []

    def record(*args: object, **settings: object) -> tuple[Tensor, Tensor]:
        calls.append(settings)
        return strongest(*args, **settings)

    model, x = linear(2), pixels(6)
    monkeypatch.setattr(adversary, "strongest", record)
    settings = Attack(n_steps=7, step_size=0.5, losses=["margin", "cross_entropy"])
    attack(model, x, predict(model, x), ball("l2", 1e-3), settings, seed=0)
    assert [(call["n_steps"], call["step_size"]) for call in calls] == [(7, pytest.approx(0.5e-3))] * 2
    assert [call["loss"] for call in calls] == [margin, cross_entropy]


@both_norms
def test_the_attack_repeats_bit_for_bit(norm, linear, pixels):
    # trap 25
    model, x, y, threat = linear(10), pixels(20), torch.arange(20) % 10, ball(norm, 0.1)
    first, again = (attack(model, x, y, threat, WEAK, seed=0)[0] for _ in range(2))
    assert torch.equal(first, again)


def test_the_losses_are_the_ones_of_params():
    assert {"cross_entropy": cross_entropy, "margin": margin} == LOSSES


def test_steps_shrink_linearly_from_the_first_to_the_last_in_every_start(linear, pixels, monkeypatch):
    sizes = []
    monkeypatch.setattr(Linf, "step", lambda self, grad, step_size: sizes.append(step_size) or 0 * grad)
    model, x = linear(), pixels(1, 0.4, 0.6)
    settings = Attack(n_steps=4, step_size=1.0, last_step_size=0.2, losses=["margin", "cross_entropy"])
    attack(model, x, predict(model, x), Linf(1e-6), settings, seed=0)
    assert sizes == pytest.approx([1e-6, 8e-7, 6e-7, 4e-7] * 2)
    sizes.clear()
    attack(model, x, predict(model, x), Linf(1e-6), replace(settings, last_step_size=None), seed=0)
    assert sizes == pytest.approx([1e-6] * 8)


@pytest.mark.parametrize(
    ("give_up_below", "expected"), [(None, [3, 3, 3, 3]), (0.5, [3, 3, 2, 2]), (0.0, [3, 3, 3, 3])]
)
def test_what_no_loss_brings_half_of_the_way_is_left(give_up_below, expected, linear, pixels, monkeypatch):
    """Three examples, margins in shares of the clean one: the first two starts try a loss each and give none up."""
    model, x = linear(), pixels(3, 0.4, 0.6)
    y = predict(model, x)
    clean = margin(model(x), y)
    left = iter([[0.8, 0.6, 0.1], [0.7, 0.45, 0.3], [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]])
    seen = []

    def found(model, x_part, *_, **__):
        seen.append(len(x_part))
        places = [(x == row).flatten(1).all(1).nonzero().item() for row in x_part]
        return x_part, torch.tensor(next(left))[places] * clean[places]

    monkeypatch.setattr(adversary, "strongest", found)
    losses = ["cross_entropy", "margin", "cross_entropy", "margin"]
    settings = Attack(n_steps=3, step_size=0.5, losses=losses, give_up_below=give_up_below)
    _, fooled = attack(model, x, y, ball("linf", 0.1), settings, seed=0)
    assert seen == expected
    assert not fooled.any()


def test_an_example_that_is_already_wrong_is_not_given_up_near_the_border():
    """Its clean margin is positive; what counts is how near to a wrong answer the ball came."""
    settings = Attack(n_steps=3, step_size=0.5, losses=["margin", "margin"], give_up_below=0.5)
    clean, best = torch.tensor([2.0, 2.0, -2.0, -2.0]), torch.tensor([-0.9, -1.1, -0.9, -1.1])
    assert settings.hopeless(1, clean, best).tolist() == [False, True, False, True]
    assert not settings.hopeless(0, clean, best).any()


def test_giving_up_depends_on_no_scale_of_the_logits():
    # trap 11
    settings = Attack(n_steps=3, step_size=0.5, losses=["margin", "margin"], give_up_below=0.5)
    clean, best = -torch.rand(50), -torch.rand(50)
    assert torch.equal(settings.hopeless(1, clean, best), settings.hopeless(1, 1000 * clean, 1000 * best))


def test_a_worse_restart_does_not_replace_what_an_earlier_one_found(linear, pixels, monkeypatch):
    # trap 9
    shift = iter([0.25, 0.5])
    margins = iter([-1.0, -2.0])

    def found(model, x, y, *_, **__):
        return x + next(shift), torch.full((len(x),), next(margins))

    monkeypatch.setattr(adversary, "strongest", found)
    model, x = linear(), pixels(3, 0.1, 0.4)
    settings = Attack(n_steps=3, step_size=0.5, losses=["margin", "margin"])
    x_adv, fooled = attack(model, x, predict(model, x), ball("linf", 0.5), settings, seed=0)
    assert torch.equal(x_adv, x + 0.25)
    assert not fooled.any()


def walk(monkeypatch, linear, pixels, *, fools: set[float], shorter_fools: set[float]) -> tuple[list, float]:
    """Return who was called at which eps for one example, and the smallest fooling eps that came out."""
    calls = []

    def full(model, x, y, threat, settings, *, seed):
        calls.append(("full", threat.eps))
        return x + threat.eps / 10, torch.full((len(x),), threat.eps in fools)

    def shorter(model, x, y, threat, start, settings):
        calls.append(("shorter", threat.eps))
        assert (start != x).all()  # what the larger ball found
        return start, torch.full((len(x),), threat.eps in shorter_fools)

    monkeypatch.setattr(adversary, "attack", full)
    monkeypatch.setattr(adversary, "shorter_attack", shorter)
    model, x = linear(), pixels(1, 0.4, 0.6)
    outcome = smallest_fooling_eps(model, x, predict(model, x), "linf", [0.1, 0.2, 0.3], WEAK, seed=0)
    return calls, outcome.item()


def test_what_a_large_ball_does_not_fool_meets_no_smaller_one(linear, pixels, monkeypatch):
    calls, eps = walk(monkeypatch, linear, pixels, fools={0.1, 0.2}, shorter_fools={0.1, 0.2})
    assert calls == [("full", 0.3)]
    assert eps == torch.inf


def test_what_is_fooled_is_attacked_in_full_until_it_is_not(linear, pixels, monkeypatch):
    calls, eps = walk(monkeypatch, linear, pixels, fools={0.2, 0.3}, shorter_fools=set())
    assert calls == [("full", 0.3), ("shorter", 0.2), ("full", 0.2), ("shorter", 0.1), ("full", 0.1)]
    assert eps == pytest.approx(0.2)


def test_what_still_fools_when_pulled_into_the_smaller_ball_needs_no_other_start(linear, pixels, monkeypatch):
    calls, eps = walk(monkeypatch, linear, pixels, fools={0.3}, shorter_fools={0.1, 0.2})
    assert calls == [("full", 0.3), ("shorter", 0.2), ("shorter", 0.1)]
    assert eps == pytest.approx(0.1)
