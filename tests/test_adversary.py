"""The adversary of evaluation: what it keeps, and restarts that add."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.attack.adversary import attack, near, smallest_fooling_eps, smooth_margin, strongest
from robacc.attack.answers import answers, margin
from robacc.attack.norms import Linf, threat_model
from robacc.attack.pgd import cross_entropy, input_gradient, pgd, random_start
from robacc.nets.model import CHUNK, predict
from robacc.seeding import generator
from tests.made_up_attacks import FLAT, Bands, Lying, Scaled, asked, both_norms, weak

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


def test_the_loss_works_where_the_cross_entropys_gradient_is_exactly_zero(linear, pixels):
    # trap 11
    model, x = Scaled(linear(2), 1000.0), pixels(40, 0.4, 0.6)
    y = predict(model, x)  # all right
    grad, _ = input_gradient(model, x, y, cross_entropy)
    assert (grad.flatten(1).abs().amax(1) == 0).any()
    _, found = strongest(model, x, y, threat_model("linf", 0.1), start=x, n_steps=10, step_size=0.05)
    assert (found > 0).all()


def test_the_loss_has_the_direction_of_the_cross_entropys_gradient(linear, pixels):
    model, x = linear(10), pixels(20)
    y = torch.arange(20) % 10
    ours, theirs = (input_gradient(model, x, y, loss)[0].flatten(1) for loss in (smooth_margin, cross_entropy))
    torch.testing.assert_close(F.cosine_similarity(ours, theirs), torch.ones(20), rtol=0, atol=1e-5)
    assert (smooth_margin(model(x), y) >= margin(model(x), y)).all()


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
    n = len(script) - 1
    best, found = strongest(Scripted(script), x, y, threat_model("linf", 0.4), start=x, n_steps=n, step_size=0.05)
    points = [sum(0.05 * (1 - step / n) for step in range(k)) for k in range(n + 1)]
    return min(range(n + 1), key=lambda k: abs(points[k] - float(best - x))), found.item()


def test_a_success_beats_a_larger_loss():
    # trap 8
    y = torch.zeros(2, dtype=torch.long)
    wrong, right = smooth_margin(torch.tensor([WRONG, RIGHT]), y)
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
    best, found = strongest(Valley(), x, y, threat, **steps)
    assert found > 0
    assert Valley()(best).argmax(1) != y


@both_norms
def test_the_margin_returned_is_that_of_the_examples_returned(norm, smooth_net, pixels):
    model, x, y = smooth_net(), pixels(30, dtype=torch.float64), torch.arange(30) % 3
    threat = threat_model(norm, EPS[norm])
    start = random_start(x, threat, generator(0))
    best, found = strongest(model, x, y, threat, start=start, n_steps=5, step_size=0.1, first_radius=2.0)
    assert (found > 0).any()
    assert (found < 0).any()
    torch.testing.assert_close(found, margin(model(best), y).detach(), rtol=0, atol=1e-12)
    assert (found >= margin(model(start), y)).all()


def test_a_fooled_example_leaves_the_batch(linear, pixels):
    model, x = linear(2), pixels(10)
    y = 1 - model(x).argmax(1)  # all wrong from the start
    seen = asked(model)
    y[0] = 1 - y[0]  # but the first, which steps of length 0 leave as it is
    strongest(model, x, y, threat_model("l2", 0.1), start=x, n_steps=3, step_size=0.0)
    assert [len(batch) for batch in seen] == [10, 1, 1, 1]


# ---- The ball that shrinks ----------------------------------------------------------------------------------------


def watched(eps: float) -> tuple[Linf, list[float], list[float]]:
    """Return a ball, and two lists: the sizes of all steps in it, and the radii that it was given."""
    steps: list[float] = []
    radii: list[float] = []

    class Watched(Linf):
        def step(self, grad: Tensor, step_size: float) -> Tensor:
            steps.append(step_size)
            return super().step(grad, step_size)

        def project(self, delta: Tensor) -> Tensor:
            radii.append(self.eps)
            return super().project(delta)

    return Watched(eps), steps, radii


@pytest.mark.parametrize(
    ("n_steps", "radii"), [(4, [2, 1.5, 1, 1]), (5, [2, 1.6, 1.2, 1, 1]), (3, [2, 4 / 3, 1]), (2, [2, 1])]
)
def test_the_ball_shrinks_to_eps_over_half_of_the_steps(n_steps, radii, linear, pixels):
    # trap 23: sizes are shares of eps
    model, x = linear(), pixels(6, 0.4, 0.6)
    threat, steps, seen = watched(1e-6)
    strongest(model, x, predict(model, x), threat, start=x, n_steps=n_steps, step_size=1e-6, first_radius=2.0)
    assert seen == pytest.approx([1e-6 * radius for radius in radii])
    assert steps == pytest.approx([1e-6 * (1 - k / n_steps) for k in range(n_steps)])


@both_norms
@pytest.mark.parametrize("n_steps", range(2, 10))
@pytest.mark.parametrize("first_radius", [1.0, 1.7, 2.0, 3.0])
def test_an_iterate_counts_only_in_the_ball_and_the_box(norm, n_steps, first_radius, linear, pixels):
    """A linear model is fooled most at the largest radius: an iterate of a larger ball would win."""
    model, x = linear(10), pixels(30)
    y, threat = predict(model, x), threat_model(norm, EPS[norm] / 20)
    steps = {"n_steps": n_steps, "step_size": 2 * threat.eps, "first_radius": first_radius}
    best, _ = strongest(model, x, y, threat, start=x, **steps)
    assert (threat.size(best.double() - x.double()) <= threat.eps + threat.tolerance).all()
    assert best.min() >= 0
    assert best.max() <= 1
    assert threat.size(best - x).max() > 0.99 * threat.eps


def test_a_larger_ball_first_leads_past_a_maximum_at_the_border():
    """The second pixel would fool the model, but only outside the ball does its gradient say so."""

    class Hidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            first, second = (x.flatten(1) - 0.5).T
            wrong = 0.5 * first + 2 * F.relu(second - 0.03) + 4 * second * (first > 0.12) - 0.15
            return torch.stack([torch.zeros_like(wrong), wrong], 1)

    x, y, threat = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, dtype=torch.long), threat_model("linf", 0.1)
    steps = {"start": x, "n_steps": 10, "step_size": 0.2}
    inside, outside = (strongest(Hidden(), x, y, threat, **steps, first_radius=radius)[1] for radius in (1.0, 2.0))
    assert inside.item() == pytest.approx(-0.1)
    assert outside > 0


# ---- Restarts -----------------------------------------------------------------------------------------------------


def test_restarts_complement_each_other():
    # trap 7: no step leads anywhere, so that each start fools whom it falls right for
    x, y, threat = torch.full((60, 1, 1, 2), 0.5), torch.zeros(60, dtype=torch.long), threat_model("linf", 0.3)
    model = Bands((0.2, 0.3))
    seen = asked(model)
    found = [attack(model, x, y, threat, weak(n), seed=0) for n in (3, 2, 1)][::-1]
    assert all(len(later) <= len(earlier) for earlier, later in pairwise(seen[:13]))  # the fooled meet no other start
    for (x_fewer, fewer), (x_more, more) in pairwise(found):
        assert (more & ~fewer).any()
        assert torch.equal(x_more[fewer], x_fewer[fewer])
    assert not more.all()
    assert torch.equal(predict(model, x_more) == 1, more)


def test_a_worse_restart_replaces_neither_the_image_nor_what_an_earlier_one_found(linear, pixels):
    # trap 9: no step leads anywhere, so that each start offers one point
    model, x = Lying(linear(), FLAT), pixels(30, 0.4, 0.6)
    y, threat = predict(model, x), threat_model("linf", 1e-3)
    seen = asked(model)
    x_adv, fooled = attack(model, x, y, threat, weak(2), seed=0)
    points = torch.stack([x, seen[1], seen[5]])  # the images, and after the first start its three steps
    strongest_of = torch.stack([margin(model(point), y) for point in points]).argmax(0)
    assert not fooled.any()
    assert set(strongest_of.tolist()) == {0, 1, 2}
    assert torch.equal(x_adv, points[strongest_of, torch.arange(30)])


@both_norms
def test_more_restarts_never_help_the_defender(norm, smooth_net, pixels):
    # trap 7, trap 32
    model, x = smooth_net(), pixels(60, dtype=torch.float64)
    y, threat = predict(model, x), threat_model(norm, {"linf": 0.04, "l2": 0.2}[norm])
    found = []
    for n in (1, 2, 4):
        settings = weak(n, n_steps=2)
        found.append(attack(model, x, y, threat, settings, seed=0)[1])
    assert not (found[0] & ~found[1]).any()
    assert not (found[1] & ~found[2]).any()
    assert 0 < found[0].sum() <= found[2].sum() < 60


def test_every_restart_has_its_own_start_and_the_seed_decides_it(linear, pixels):
    # trap 25
    model, x = linear(2), pixels(6)
    y, seen = predict(model, x), asked(model)
    for seed in (0, 0, 1):
        attack(model, x, y, threat_model("l2", 1e-3), weak(2), seed=seed)
    first, second, again, _, other, _ = (seen[i] for run in (0, 9, 18) for i in (run + 1, run + 5))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_chunk_of_examples_has_its_own_starts(linear, pixels):
    # trap 25
    model, x = linear(2), pixels(1).expand(2 * CHUNK, -1, -1, -1)
    y, seen = predict(model, x), asked(model)
    attack(model, x, y, threat_model("l2", 1e-3), weak(), seed=0)
    images, other_images, start, other_start = seen[0], seen[1], seen[2], seen[6]
    assert torch.equal(images, other_images)
    assert not torch.equal(start, other_start)


@both_norms
def test_the_attack_repeats_bit_for_bit(norm, linear, pixels):
    # trap 25
    model, x, y, threat = linear(10), pixels(20), torch.arange(20) % 10, threat_model(norm, 0.1)
    first, again = (attack(model, x, y, threat, weak(), seed=0)[0] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_restart_leaves_what_no_start_brought_its_share_of_the_way(share, linear, pixels, closed_form):
    model, x, eps = linear(), pixels(200, 0.4, 0.6), 0.01
    y = predict(model, x)
    threshold = closed_form(model, x, y, "linf")
    x, y, came = x[threshold > 1.05 * eps], y[threshold > 1.05 * eps], eps / threshold[threshold > 1.05 * eps]
    seen = asked(model)
    settings = weak(3, n_steps=8, step_size=1.0, share=share)
    _, fooled = attack(model, x, y, threat_model("linf", eps), settings, seed=0)
    assert not fooled.any()
    close = int((came >= share).sum())
    assert [len(batch) for batch in seen[1::9]] == [len(x), close, close]
    assert 0 < (came >= 0.5).sum() < len(x)


def test_an_example_that_is_already_wrong_is_not_given_up_near_the_border():
    """Its clean margin is positive; what counts is how near to a wrong answer the ball came."""
    clean, best = torch.tensor([2.0, 2.0, -2.0, -2.0]), torch.tensor([-0.9, -1.1, -0.9, -1.1])
    assert near(best, clean, 0.5).tolist() == [True, False, True, False]
    assert not near(-best, clean, 0.5).any()


def test_nearness_depends_on_no_scale_of_the_logits():
    # trap 11
    clean, best = -torch.rand(2, 50, generator=generator(0))
    close = near(best, clean, 0.5)
    assert 0 < close.sum() < 50
    for scale in (1e-3, 1e3):
        assert torch.equal(near(scale * best, scale * clean, 0.5), close)


@both_norms
def test_the_search_finds_what_the_gradient_hides(norm, linear, pixels):
    """No step leads anywhere. The search meets only what the random start brought near."""
    model, x = Lying(linear(2), FLAT), pixels(200)
    y, threat = predict(model, x), threat_model(norm, EPS[norm])
    nearest, without = attack(model, x, y, threat, weak(), seed=0)
    seen = asked(model)
    x_adv, found = attack(model, x, y, threat, weak(n_queries=100), seed=0)
    assert not (without & ~found).any()
    assert (found & ~without).any()
    assert torch.equal(predict(model, x_adv) != y, found)
    assert (threat.size(x_adv.double() - x.double()) <= threat.eps + threat.tolerance).all()
    begun = seen[5]  # after the images and the quick run of three steps
    assert 0 < len(begun) < 100
    assert all((nearest == point).flatten(1).all(1).any() for point in begun)
    assert not all((x == point).flatten(1).all(1).any() for point in begun)


# ---- The walk down the grid of eps --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bands", "eps", "seen"),
    [
        pytest.param([(0.01, 0.15)], torch.inf, [0, *[0.24] * 8], id="what a large ball does not fool meets no other"),
        pytest.param(
            [(0.21, 0.3), (0.11, 0.19)],
            0.2,
            [0, 0.24, 0, *[0.2] * 4, 0.16, 0, *[0.1] * 4, *[0.08] * 4],
            id="what is fooled is attacked in full until it is not",
        ),
        pytest.param(
            [(0.09, 0.3)], 0.1, [0, 0.24, 0, 0.2, 0, 0.1], id="what still fools pulled in needs no other start"
        ),
    ],
)
def test_the_walk_pulls_in_what_fooled_and_stops_where_nothing_does(bands, eps, seen):
    """Both starts of this seed lie at 0.8 eps, and no step leads away; every attack asks about the image first."""
    model, x, y = Bands(*bands), torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    batches = asked(model)
    outcome = smallest_fooling_eps(model, x, y, "linf", [0.1, 0.2, 0.3], weak(2), seed=3938)
    assert [(batch - x).item() for batch in batches] == pytest.approx([0, *seen], abs=0.004)
    assert outcome.item() == pytest.approx(eps)
