"""Square Attack: against its authors' package, closed forms, and a model whose gradient says nothing."""

import pytest
import torch
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from robacc.attack.answers import answers
from robacc.attack.norms import threat_model
from robacc.attack.square import square, stripes
from robacc.nets.model import predict
from robacc.seeding import generator
from tests.made_up_attacks import FLAT, GRID, Lying, asked, both_norms

SHAPES = [(3, 8, 6), (1, 1, 9), (7, 5), (20,), (2, 1, 1), (1,)]


def search(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, n_queries: int = 200, seed: int = 0):
    threat, draws = threat_model(norm, eps), generator(seed, "square")
    start = stripes(x, threat, draws)
    return square(model, x, y, threat, start=start, n_queries=n_queries, generator=draws)


class Bowl(nn.Module):
    """Logits of images of any shape, from the distance to 0.5 in some pixels."""

    def forward(self, x: Tensor) -> Tensor:
        flat = (x.flatten(1) - 0.5).abs()
        return torch.stack([0.1 + flat[:, ::2].sum(1), flat[:, 1::2].sum(1)], 1)


@both_norms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_image_it_asks_about_is_in_ball_and_box(norm, shape):
    x = torch.rand(5, *shape, generator=generator(0, "images")).mul(1.6).sub(0.3).clamp(0, 1)
    model, y, threat = Bowl().eval(), torch.arange(5) % 2, threat_model(norm, 0.3)
    seen = asked(model)
    best, margins = search(model, x, y, norm, 0.3, n_queries=60)
    n_calls = len(seen)
    assert 1 <= n_calls <= 60
    for batch in [*seen, best]:
        assert batch.min() >= 0
        assert batch.max() <= 1
    for whole in (seen[0], best):
        assert threat.size(whole.double() - x.double()).max() <= 0.3 + threat.tolerance
    assert torch.equal(answers(model, best, y)[1], margins)
    assert (margins >= answers(model, seen[0], y)[1]).all()


@both_norms
def test_no_image_leaves_the_ball_while_all_are_asked_about(norm, pixels):
    x, y, threat = pixels(6), torch.zeros(6, dtype=torch.long), threat_model(norm, 0.3)
    confident = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
    with torch.no_grad():
        confident[1].bias.copy_(torch.tensor([100.0, 0.0]))
    seen = asked(confident)
    search(confident, x, y, norm, 0.3)
    assert [len(batch) for batch in seen] == [6] * 200
    sizes = torch.stack([threat.size(batch.double() - x.double()) for batch in seen])
    assert sizes.max() <= 0.3 + threat.tolerance
    assert sizes.min() > 0.15  # far out, where an attack belongs


@both_norms
def test_it_comes_near_the_optimum_of_a_linear_model_and_never_beyond(norm, linear, pixels, closed_form):
    model, x = linear(2), pixels(80, 0.4, 0.6)
    y, eps = predict(model, x), GRID[norm][0]
    threshold = closed_form(model, x, y, norm)
    _, margins = search(model, x, y, norm, eps, n_queries=2000)
    near = {"linf": 0.999, "l2": 0.6}[norm]  # a window in l2 has nine of 36 pixels or more
    assert ((threshold < near * eps) <= (margins >= 0)).all()
    assert ((margins >= 0) <= (threshold <= eps)).all()
    assert 0.2 < (margins >= 0).double().mean() < 0.8


@both_norms
def test_it_needs_no_gradient(norm, linear, pixels):
    model, x = linear(2), pixels(40, 0.4, 0.6)
    y = predict(model, x)
    expected, margins = search(model, x, y, norm, GRID[norm][1])
    found, without = search(Lying(model, FLAT), x, y, norm, GRID[norm][1])
    assert torch.equal(found, expected)
    assert torch.equal(without, margins)
    assert (margins >= 0).any()


@both_norms
def test_a_fooled_example_is_asked_about_no_more_and_changes_no_other(norm, linear, pixels):
    model, x = linear(2, dtype=torch.float64), pixels(40, 0.4, 0.6, dtype=torch.float64)
    y = predict(model, x)
    expected, margins = search(model, x, y, norm, GRID[norm][0])
    left = margins < 0
    assert 0 < left.sum() < 40
    seen = asked(model)
    y[::2] = 1 - y[::2]
    found, again = search(model, x, y, norm, GRID[norm][0])
    sizes = [len(batch) for batch in seen]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (40, int((again < 0).sum()))
    assert (again[::2] >= 0).sum() > 15  # nearly all of them at once
    torch.testing.assert_close(found[1::2], expected[1::2], rtol=0, atol=1e-12)
    torch.testing.assert_close(again[1::2], margins[1::2], rtol=0, atol=1e-12)


def test_where_all_are_fooled_it_asks_once(linear, pixels):
    model, x = linear(2), pixels(10)
    seen = asked(model)
    _, margins = search(model, x, 1 - predict(model, x), "linf", 0.0)
    assert len(seen) == 1 + 1  # of `predict`, and the start
    assert (margins >= 0).all()
    best, margins = search(model, x[:0], torch.zeros(0, dtype=torch.long), "l2", 0.1)
    assert (best.shape, margins.shape) == ((0, 1, 6, 6), (0,))


@both_norms
def test_a_local_search_asks_with_small_windows_and_leaves_what_it_does_not_bring_nearer(norm):
    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0]).expand(len(x), 2) + 0 * x.flatten(1)[:, :1]

    model, x, y = Deaf(), torch.full((3, 1, 28, 28), 0.5), torch.zeros(3, dtype=torch.long)
    threat, seen = threat_model(norm, 0.1), asked(model)
    start = x + threat.step(torch.ones_like(x), threat.eps)
    how = {"start": start, "n_queries": 400, "generator": generator(0)}
    square(model, x, y, threat, **how, local=True)
    assert len(seen) == 150  # of 400: so many queries without any gain are enough
    if norm == "linf":  # in l2 the rest of the ball pays for a window
        changed = torch.stack([(batch != start).flatten(1).sum(1) for batch in seen[1:]])
        assert changed.max() == 16  # a window of a seventh of the height, and a fourteenth is the smallest
        assert set(changed.unique().tolist()) <= {0, 4, 9, 16}
    seen.clear()
    square(model, x, y, threat, **how)
    assert len(seen) == 400


def test_a_local_search_goes_on_while_it_brings_an_example_nearer():
    """A Bowl of many pixels rises by a little with nearly every window."""
    model, x = Bowl(), torch.full((2, 1, 28, 28), 0.5)
    y, seen = torch.zeros(2, dtype=torch.long), asked(model)
    how = {"start": x, "n_queries": 200, "generator": generator(0), "local": True}
    _, margins = square(model, x, y, threat_model("linf", 1e-4), **how)
    assert len(seen) == 200
    assert (margins > -0.1).all()
    assert (margins < 0).all()


@both_norms
def test_it_finds_as_much_as_its_authors_package_with_as_many_queries(norm):
    """On a net with convolutions, from four seeds: within 10 points."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()]
        net = nn.Sequential(*layers, nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10)).eval()
    x = torch.rand(60, 1, 28, 28, generator=generator(0, "images"))
    y, eps, n_queries = predict(net, x), {"linf": 0.08, "l2": 1.6}[norm], 100
    ours = theirs = 0
    for seed in range(4):
        ours += int((search(net, x, y, norm, eps, n_queries, seed)[1] >= 0).sum())
        package = SquareAttack(net, norm=norm.capitalize(), eps=eps, n_queries=n_queries - 1, seed=seed, device="cpu")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            theirs += int((answers(net, package.perturb(x, y), y)[1] >= 0).sum())
    assert 48 < theirs < 192
    assert abs(ours - theirs) <= 0.1 * 240


@both_norms
def test_nan_logits_raise_and_nothing_is_changed(norm, linear, pixels):
    class Breaks(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return linear(2)(z) * torch.where(z.flatten(1)[:, :1] > 0.5, torch.nan, 1.0)

    x, y = pixels(10, 0.3, 0.5), torch.zeros(10, dtype=torch.long)
    with pytest.raises(FloatingPointError, match="logits are NaN"):
        search(Breaks(), x, y, norm, 0.4)
    model, start = linear(2).train(), x.clone()
    square(model, x, y, threat_model(norm, 0.1), start=start, n_queries=20, generator=generator(0, "square"))
    assert torch.equal(start, x)
    assert torch.equal(x, pixels(10, 0.3, 0.5))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
