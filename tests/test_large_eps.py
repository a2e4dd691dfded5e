"""Large-eps examples, interpolations, and what judges say about them."""

import numpy as np
import pytest
import torch

from robacc.attack.adversary import smooth_margin
from robacc.attack.norms import threat_model
from robacc.attack.pgd import random_start
from robacc.paper import large_eps
from robacc.params import Search
from robacc.seeding import generator
from tests.made_up_attacks import both_norms

SEARCH = Search(n_steps=20, step_size=2.0, first_ball=3.0)
EPS = {"linf": 0.3, "l2": 2.0}


@both_norms
@pytest.mark.parametrize("n_steps", [2, 3, 7, 20])
def test_large_eps_examples_are_in_the_ball_and_raise_the_loss(norm, n_steps, linear, edge_pixels):
    # trap 4, trap 20, trap 35
    model, y, threat = linear(10), torch.arange(8), threat_model(norm, EPS[norm])
    settings = Search(n_steps=n_steps, step_size=2.0, first_ball=3.0)
    x_adv, odds = large_eps.highest_loss(model, edge_pixels, y, threat, settings, seed=0)
    assert threat.size(x_adv.double() - edge_pixels.double()).max() <= EPS[norm] * (1 + 1e-5)
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    torch.testing.assert_close(odds, smooth_margin(model(x_adv), y).detach())
    assert (odds > smooth_margin(model(edge_pixels), y)).all()


@both_norms
def test_a_linear_model_is_taken_to_the_loss_of_the_closed_form(norm, linear, pixels):
    # In the middle of the box the ball lies inside it: the optimum is a step of eps along the dual direction.
    model, x, y = linear(2), pixels(8, 0.4, 0.6), torch.arange(8) % 2
    eps = 0.2
    _, odds = large_eps.highest_loss(model, x, y, threat_model(norm, eps), SEARCH, seed=0)
    w = (model.weight[1] - model.weight[0]).detach()
    dual = w.abs().sum() if norm == "linf" else w.norm()
    torch.testing.assert_close(odds, smooth_margin(model(x), y).detach() + eps * dual, rtol=1e-4, atol=1e-4)
    assert (odds > 0).all()  # all are fooled long before, and the search went on


def test_the_best_iterate_is_kept_and_the_start_is_one(linear, pixels):
    model, x, y, threat = linear(10), pixels(8), torch.arange(8), threat_model("linf", 0.1)
    best, _ = large_eps.highest_loss(model, x, y, threat, SEARCH, seed=0)
    again, odds = large_eps.climb(  # downhill from the best, so that no later iterate is better
        model, x, y, threat, start=best, loss=lambda logits, y: -smooth_margin(logits, y), settings=SEARCH
    )
    assert torch.equal(again, best)
    torch.testing.assert_close(odds, smooth_margin(model(best), y).detach())


def test_each_example_gets_its_best_run(monkeypatch, linear, pixels):
    model, x, y, threat = linear(10), pixels(8), torch.arange(8), threat_model("l2", 1.0)
    runs = []

    def one_run(model, x, y, threat, *, start, loss, settings):
        runs.append((start, loss))
        x_adv = random_start(x, threat, generator(len(runs), "a run"))
        return x_adv, smooth_margin(model(x_adv), y).detach()

    monkeypatch.setattr(large_eps, "climb", one_run)
    x_adv, odds = large_eps.highest_loss(model, x, y, threat, SEARCH, seed=0)
    tried = [random_start(x, threat, generator(run, "a run")) for run in (1, 2, 3)]
    losses = torch.stack([smooth_margin(model(each), y).detach() for each in tried])
    assert len(losses.argmax(0).unique()) > 1
    assert torch.equal(odds, losses.amax(0))
    assert torch.equal(x_adv, torch.stack(tried)[losses.argmax(0), torch.arange(8)])
    starts, objectives = zip(*runs, strict=True)
    assert [torch.equal(start, x) for start in starts] == [True, False, False]
    assert not torch.equal(starts[1], starts[2])
    assert objectives == (smooth_margin, smooth_margin, large_eps.margin)


def test_the_search_is_the_same_in_every_run_and_its_starts_for_every_model(linear, pixels):
    x, y, threat = pixels(6), torch.arange(6), threat_model("linf", 0.2)
    first, _ = large_eps.highest_loss(linear(10), x, y, threat, SEARCH, seed=0)
    again, _ = large_eps.highest_loss(linear(10), x, y, threat, SEARCH, seed=0)
    assert torch.equal(first, again)


def test_a_model_without_gradient_gives_no_nan(linear, pixels):
    model, x, y = linear(10), pixels(4), torch.arange(4)
    model.weight.data.zero_()
    x_adv, odds = large_eps.highest_loss(model, x, y, threat_model("l2", 1.0), SEARCH, seed=0)
    assert x_adv.isfinite().all()
    assert odds.isfinite().all()


@pytest.mark.parametrize(
    ("x", "error"),
    [(torch.ones(2, 1, 6, 6, dtype=torch.uint8), TypeError), (torch.full((2, 1, 6, 6), 255.0), ValueError)],
)
def test_whole_numbers_and_unscaled_images_are_refused(x, error, linear):
    # trap 24, trap 30
    with pytest.raises(error, match="expected x"):
        large_eps.highest_loss(linear(10), x, torch.zeros(2).long(), threat_model("l2", 1.0), SEARCH, seed=0)


@pytest.mark.parametrize("n_points", [2, 3, 9])
def test_interpolation_is_a_line_with_exact_ends(n_points, pixels):
    # trap 35
    x, x_adv = pixels(4), pixels(4).flip(0) * 0.7
    path = large_eps.interpolation(x, x_adv, n_points)
    assert path.shape == (4, n_points, 1, 6, 6)
    assert torch.equal(path[:, 0], x)
    assert torch.equal(path[:, -1], x_adv)
    expected = np.linspace(x.numpy(), x_adv.numpy(), n_points, axis=1)
    np.testing.assert_allclose(path.numpy(), expected, atol=1e-6)


def test_probabilities_are_the_softmax_in_evaluation_mode(norm_net, pixels):
    # trap 1
    model, x = norm_net(), pixels(5)
    first, again = large_eps.probabilities(model, x), large_eps.probabilities(model, x)
    assert torch.equal(first, again)
    torch.testing.assert_close(first.sum(1), torch.ones(5))
    assert model.training
    torch.testing.assert_close(first, model.eval()(x).softmax(1).detach())


def test_the_nearest_training_image_is_the_one_by_brute_force(pixels):
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.uniform(size=(60, 1, 6, 6)), dtype=torch.float32)
    labels = torch.tensor(rng.integers(3, size=60))
    training, x, y = large_eps.TrainingImages(images, labels), pixels(7), torch.arange(7) % 3
    distances = (x[:, None].double() - images.double()).flatten(2).norm(dim=2)
    assert torch.equal(training.nearest(x), distances.argmin(1))
    distances[y[:, None] == labels] = torch.inf
    assert torch.equal(training.nearest(x, unlike=y), distances.argmin(1))
    assert not torch.equal(training.nearest(x), training.nearest(x, unlike=y))
    assert torch.equal(training.nearest(images), torch.arange(60))


def test_many_images_are_looked_up_in_chunks(monkeypatch, pixels):
    training = large_eps.TrainingImages(pixels(8), torch.arange(8) % 2)
    x, y = pixels(8).flip(0), torch.arange(8) % 2
    whole = training.nearest(x, unlike=y)
    monkeypatch.setattr(large_eps, "CHUNK", 3)
    assert torch.equal(training.nearest(x, unlike=y), whole)


def test_judges_see_only_what_changed_the_attacked_models_mind(linear, pixels):
    model, judge, x, x_adv = linear(10), linear(10), pixels(40), pixels(40).flip(0)
    judge.weight.data[:5] *= 0.5
    y = model(x).argmax(1)
    training = large_eps.TrainingImages(pixels(40, 0.2, 0.8), torch.arange(40) % 10)
    numbers = large_eps.large_eps_numbers(model, {"other": judge}, training, x, x_adv, y, n_points=3)
    new = model(x_adv).argmax(1)
    changed = new != y
    assert 0 < changed.sum() < 40
    assert torch.equal(numbers["changed"], changed)
    agrees = (judge(x_adv).argmax(1) == new)[changed]
    assert 0 < agrees.sum() < len(agrees)
    assert torch.equal(numbers["judged_other"], agrees)
    for point, images in enumerate([x, (x + x_adv) / 2, x_adv]):
        expected = judge(images).softmax(1).gather(1, new[:, None])[changed, 0].detach()
        torch.testing.assert_close(numbers["path_other"][:, point], expected)
    assert numbers["path_other"].shape == (len(agrees), 3)
    nearest = (training.y[training.nearest(x_adv)] == new)[changed]
    assert 0 < nearest.sum() < len(nearest)
    assert torch.equal(numbers["judged_nearest"], nearest)


def test_where_no_example_changes_class_nobody_is_asked(linear, pixels):
    model, x = linear(10), pixels(4)
    training = large_eps.TrainingImages(x, torch.arange(4))
    numbers = large_eps.large_eps_numbers(model, {"other": model}, training, x, x, model(x).argmax(1), n_points=3)
    assert not numbers["changed"].any()
    assert all(len(values) == 0 for name, values in numbers.items() if name != "changed")
