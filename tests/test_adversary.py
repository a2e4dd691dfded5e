"""The adversary of evaluation: what it keeps, and restarts that add."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from robacc.attack.adversary import attack, shorter_attack, skipped, smallest_fooling_eps, strongest
from robacc.attack.answers import answers, margin
from robacc.attack.diagnostics import Scaled
from robacc.attack.norms import Linf, threat_model
from robacc.attack.pgd import cross_entropy, input_gradient, pgd, random_start
from robacc.nets.model import CHUNK, predict
from robacc.seeding import generator
from tests.made_up_attacks import FLAT, Bands, Lying, asked, both_norms, weak

EPS = {"linf": 0.1, "l2": 0.3}


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
    predicted, found = answers(nn.Identity(), logits, y)
    assert torch.equal(predicted, logits.argmax(1))
    assert torch.equal(found, margin(logits, y))


def test_at_a_tie_the_answer_is_wrong_whichever_class_is_the_true_one():
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 2.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    predicted, margins = answers(nn.Identity(), logits, torch.tensor([0, 1, 1, 2]))
    assert predicted.tolist() == [1, 2, 0, 0]
    assert margins.tolist() == [0, 0, 0, 1]


def test_margin_works_where_the_cross_entropys_gradient_is_exactly_zero(linear, pixels):
    # trap 11
    model, x = Scaled(linear(2), 1000.0), pixels(40, 0.4, 0.6)
    y = predict(model, x)  # all right
    threat, steps = threat_model("linf", 0.1), {"start": x, "n_steps": 10, "step_size": 0.025, "last_step_size": 0.025}
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
    steps = {"start": x, "n_steps": len(script) - 1, "step_size": 0.05, "last_step_size": 0.05}
    best, found = strongest(Scripted(script), x, y, threat_model("linf", 0.4), **steps, loss=cross_entropy)
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

    x, y, threat = torch.full((1, 1, 1, 1), 0.47), torch.zeros(1, dtype=torch.long), threat_model("linf", 0.4)
    steps = {"start": x, "n_steps": 1, "step_size": 0.2}
    last = pgd(Valley(), x, y, threat, **steps)
    assert Valley()(last).argmax(1) == y
    best, found = strongest(Valley(), x, y, threat, **steps, last_step_size=0.2, loss=cross_entropy)
    assert found > 0
    assert Valley()(best).argmax(1) != y


@both_norms
def test_the_margin_returned_is_that_of_the_examples_returned(norm, smooth_net, pixels):
    model, x, y = smooth_net(), pixels(30, dtype=torch.float64), torch.arange(30) % 3
    threat = threat_model(norm, EPS[norm])
    start = random_start(x, threat, generator(0))
    steps = {"start": start, "n_steps": 5, "step_size": 0.05, "last_step_size": 0.05}
    best, found = strongest(model, x, y, threat, **steps, loss=cross_entropy)
    assert (found > 0).any()
    assert (found < 0).any()
    torch.testing.assert_close(found, margin(model(best), y).detach(), rtol=0, atol=1e-12)
    assert (found >= margin(model(start), y)).all()


def test_a_fooled_example_leaves_the_batch(linear, pixels):
    model, x = linear(2), pixels(10)
    y = 1 - model(x).argmax(1)  # all wrong from the start
    seen = asked(model)
    y[0] = 1 - y[0]  # but the first, which steps of length 0 leave as it is
    steps = {"start": x, "n_steps": 3, "step_size": 0.0, "last_step_size": 0.0}
    strongest(model, x, y, threat_model("l2", 0.1), **steps, loss=cross_entropy)
    assert [len(batch) for batch in seen] == [10, 1, 1, 1]


# ---- Restarts -----------------------------------------------------------------------------------------------------


def test_restarts_complement_each_other():
    # trap 7: no step leads anywhere, so that each start fools whom it falls right for
    x, y, threat = torch.full((60, 1, 1, 2), 0.5), torch.zeros(60, dtype=torch.long), threat_model("linf", 0.3)
    model = Bands((0.2, 0.3))
    seen = asked(model)
    found = [attack(model, x, y, threat, weak(*["margin"] * n), seed=0) for n in (3, 2, 1)][::-1]
    assert all(len(later) <= len(earlier) for earlier, later in pairwise(seen[:13]))  # the fooled meet no other start
    for (x_fewer, fewer), (x_more, more) in pairwise(found):
        assert (more & ~fewer).any()
        assert torch.equal(x_more[fewer], x_fewer[fewer])
    assert not more.all()
    assert torch.equal(predict(model, x_more) == 1, more)


def test_a_worse_restart_does_not_replace_what_an_earlier_one_found(linear, pixels):
    # trap 9: no step leads anywhere, so that each start offers one point
    model, x = Lying(linear(), FLAT), pixels(30, 0.4, 0.6)
    y, threat = predict(model, x), threat_model("linf", 1e-3)
    seen = asked(model)
    x_adv, fooled = attack(model, x, y, threat, weak("margin", "margin"), seed=0)
    starts = seen[1], seen[5]  # after the clean images, then after the first start and its three steps
    first, second = (margin(model(start), y) for start in starts)
    assert not fooled.any()
    assert 0 < (second > first).sum() < 30
    assert torch.equal(x_adv, torch.where((second > first).reshape(-1, 1, 1, 1), starts[1], starts[0]))


@both_norms
def test_more_restarts_never_help_the_defender(norm, smooth_net, pixels):
    # trap 7, trap 32
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y, threat = predict(model, x), threat_model(norm, {"linf": 0.2, "l2": 0.8}[norm])
    found = []
    for n in (1, 2, 4):
        settings = weak(*["cross_entropy"] * n, n_steps=1, step_size=1.0)
        found.append(attack(model, x, y, threat, settings, seed=0)[1])
    assert not (found[0] & ~found[1]).any()
    assert not (found[1] & ~found[2]).any()
    assert 0 < found[0].sum() < found[2].sum() < 60


def test_every_restart_has_its_own_start_and_the_seed_decides_it(linear, pixels):
    # trap 25
    model, x = linear(2), pixels(6)
    y, seen = predict(model, x), asked(model)
    for seed in (0, 0, 1):
        attack(model, x, y, threat_model("l2", 1e-3), weak("margin", "margin"), seed=seed)
    first, second, again, _, other, _ = (seen[i] for run in (0, 9, 18) for i in (run + 1, run + 5))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_chunk_of_examples_has_its_own_starts(linear, pixels):
    # trap 25
    model, x = linear(2), pixels(1).expand(2 * CHUNK, -1, -1, -1)
    y, seen = predict(model, x), asked(model)
    attack(model, x, y, threat_model("l2", 1e-3), weak("margin"), seed=0)
    images, other_images, start, other_start = seen[0], seen[1], seen[2], seen[6]
    assert torch.equal(images, other_images)
    assert not torch.equal(start, other_start)


def watched(eps: float) -> tuple[Linf, list[tuple[Tensor, float]]]:
    """Return a ball, and a list to which every step in it adds its gradient and size."""
    steps: list[tuple[Tensor, float]] = []

    class Watched(Linf):
        def step(self, grad: Tensor, step_size: float) -> Tensor:
            steps.append((grad.clone(), step_size))
            return super().step(grad, step_size)

    return Watched(eps), steps


@pytest.mark.parametrize(("last", "shares"), [(1.0, [1.0] * 4), (0.2, [1.0, 0.8, 0.6, 0.4])])
def test_every_restart_uses_its_loss_and_steps_in_shares_of_eps(last, shares, linear, pixels):
    # trap 23: from the first size they go linearly towards the last, in every start
    model, x = linear(), pixels(6, 0.4, 0.6)
    y, (threat, steps) = predict(model, x), watched(1e-6)
    settings = weak("margin", "cross_entropy", n_steps=4, step_size=1.0, last_step_size=last)
    attack(model, x, y, threat, settings, seed=0)
    assert [size for _, size in steps] == pytest.approx([1e-6 * share for share in shares * 2])
    by_margin, by_entropy = (input_gradient(model, x, y, loss)[0] for loss in (margin, cross_entropy))
    for (grad, _), expected in zip(steps, [by_margin] * 4 + [by_entropy] * 4, strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-3, atol=1e-6)
    assert (by_margin - by_entropy).abs().max() > 0.1


def test_the_shorter_attack_takes_a_quarter_of_the_steps_and_they_shrink_to_nothing(linear, pixels):
    model, x = linear(), pixels(6, 0.4, 0.6)
    threat, steps = watched(1e-6)
    shorter_attack(model, x, predict(model, x), threat, x, weak("margin", n_steps=15))
    assert [size for _, size in steps] == pytest.approx([0.25e-6 * share for share in (1.0, 0.75, 0.5, 0.25)])


@both_norms
def test_the_attack_repeats_bit_for_bit(norm, linear, pixels):
    # trap 25
    model, x, y, threat = linear(10), pixels(20), torch.arange(20) % 10, threat_model(norm, 0.1)
    first, again = (attack(model, x, y, threat, weak(), seed=0)[0] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(("skip_below", "is_left"), [(None, False), (0.5, True), (0.0, False)])
def test_what_no_loss_brings_half_of_the_way_is_left(skip_below, is_left, linear, pixels, closed_form):
    """The first start, on a cross-entropy without gradient, gives none up: the margin was not tried yet."""
    model, x = Scaled(linear(), 1e5), pixels(200, 0.4, 0.6)
    y, eps = predict(model, x), 0.01
    threshold = closed_form(linear(), x, y, "linf")
    x, y, share = x[threshold > 1.05 * eps], y[threshold > 1.05 * eps], eps / threshold[threshold > 1.05 * eps]
    seen = asked(model)
    losses = ["cross_entropy", "margin"] * 2
    settings = weak(*losses, n_steps=8, skip_below=skip_below)
    _, fooled = attack(model, x, y, threat_model("linf", eps), settings, seed=0)
    assert not fooled.any()
    near = int((share > 0.5).sum()) if is_left else len(x)
    assert [len(batch) for batch in seen[1::9]] == [len(x), len(x), near, near]
    assert 0 < (share > 0.5).sum() < len(x)


def test_an_example_that_is_already_wrong_is_not_given_up_near_the_border():
    """Its clean margin is positive; what counts is how near to a wrong answer the ball came."""
    settings = weak("margin", "margin", skip_below=0.5)
    clean, best = torch.tensor([2.0, 2.0, -2.0, -2.0]), torch.tensor([-0.9, -1.1, -0.9, -1.1])
    assert skipped(settings, 1, clean, best).tolist() == [False, True, False, True]
    assert not skipped(settings, 0, clean, best).any()


def test_giving_up_depends_on_no_scale_of_the_logits():
    # trap 11
    settings = weak("margin", "margin", skip_below=0.5)
    clean, best = -torch.rand(2, 50, generator=generator(0))
    given_up = skipped(settings, 1, clean, best)
    assert 0 < given_up.sum() < 50
    for scale in (1e-3, 1e3):
        assert torch.equal(skipped(settings, 1, scale * clean, scale * best), given_up)


# ---- The walk down the grid of eps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bands", "eps", "seen"),
    [
        pytest.param([(0.01, 0.15)], torch.inf, [0, *[0.24] * 4], id="what a large ball does not fool meets no other"),
        pytest.param(
            [(0.21, 0.3), (0.11, 0.19)],
            0.2,
            [0, 0.24, 0.2, 0.2, 0, 0.16, 0.1, 0.1, 0, *[0.08] * 4],
            id="what is fooled is attacked in full until it is not",
        ),
        pytest.param([(0.09, 0.3)], 0.1, [0, 0.24, 0.2, 0.1], id="what still fools pulled in needs no other start"),
    ],
)
def test_the_walk_pulls_in_what_fooled_and_stops_where_nothing_does(bands, eps, seen):
    """A start of this seed lies at 0.8 eps, and no step leads away; every full attack asks about the image first."""
    model, x, y = Bands(*bands), torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    batches = asked(model)
    outcome = smallest_fooling_eps(model, x, y, "linf", [0.1, 0.2, 0.3], weak(), seed=3)
    assert [(batch - x).item() for batch in batches] == pytest.approx([0, *seen], abs=0.003)
    assert outcome.item() == pytest.approx(eps)
