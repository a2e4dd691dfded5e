"""The linear model: its adversary against brute force, its optima against other solvers, its tables by hand."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize
from sklearn.linear_model import LogisticRegression

from robacc.images.in_memory import Images
from robacc.paper import linear

OPTIMUM = {"tolerance": 1e-7, "max_iterations": 5000}
SGD = {"lr": 0.5, "batch_size": 10, "epochs": 30, "seed": 0}


def rows(seed, n=60, d=4):
    """Two overlapping classes in [0, 1]: the first features tell much about the label, the last ones little."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    signal = np.linspace(0.3, 0.02, d)
    return np.clip(0.5 + y[:, None] * signal + 0.25 * rng.standard_normal((n, d)), 0, 1), y


def weights(seed, d=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(d), float(rng.standard_normal())


def loss(w, b, x, y, eps, l2=0.0):
    return np.log1p(np.exp(-linear.margins(w, b, x, y, eps=eps))).mean() + l2 / 2 * w @ w


def test_binary_keeps_two_classes_in_order():
    x = torch.arange(6 * 4, dtype=torch.uint8).reshape(6, 1, 2, 2)
    images = Images(x, torch.tensor([7, 5, 1, 5, 7, 0]), "")
    flat, y = linear.binary(images, classes=[5, 7])
    assert y.tolist() == [1, -1, -1, 1]
    assert flat.dtype == np.float64
    assert np.array_equal(flat * 255, x[[0, 1, 3, 4]].flatten(1).numpy())


def test_correlation_is_numpys_and_zero_for_constant_features():
    x, y = rows(0)
    x = np.hstack([x, np.zeros((len(y), 1)), np.full((len(y), 1), 0.3)])
    found = linear.correlation(x, y)
    assert found[:4] == pytest.approx([np.corrcoef(x[:, j], y)[0, 1] for j in range(4)], abs=1e-12)
    assert found[4:].tolist() == [0, 0]


def test_most_correlated_are_the_largest_and_ties_keep_their_order():
    assert linear.most_correlated(np.array([0.1, -0.9, 0.5, -0.5]), 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("k", [0, 5])
def test_most_correlated_rejects_impossible_numbers(k):
    with pytest.raises(ValueError, match="between 1 and 4"):
        linear.most_correlated(np.zeros(4), k)


@given(st.integers(0, 10**6), st.floats(0, 0.6))
def test_adversary_is_the_worst_corner(seed, eps):
    (x, y), (w, b) = rows(seed, n=5), weights(seed)
    corners = eps * np.array(list(product([-1, 1], repeat=4)))
    worst = min_margin(x[:, None] + corners, w, b, y)
    assert linear.margins(w, b, x, y, eps=eps) == pytest.approx(worst, abs=1e-12)


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_adversary_in_the_box_is_the_worst_corner_of_ball_and_box(seed, eps):
    (x, y), (w, b) = rows(seed, n=5), weights(seed)
    corners = np.array(list(product([-1, 1], repeat=4)))
    worst = min_margin(np.clip(x[:, None] + eps * corners, 0, 1), w, b, y)
    assert linear.margins_in_box(w, b, x, y, eps=eps) == pytest.approx(worst, abs=1e-12)


def min_margin(candidates, w, b, y):
    return (y[:, None] * (candidates @ w + b)).min(1)


def test_box_protects_and_without_attack_there_is_none():
    (x, y), (w, b) = rows(1), weights(1)
    assert (linear.margins_in_box(w, b, x, y, eps=0.3) >= linear.margins(w, b, x, y, eps=0.3) - 1e-12).all()
    clean = y * (x @ w + b)
    assert np.array_equal(linear.margins(w, b, x, y, eps=0.0), clean)
    assert np.array_equal(linear.margins_in_box(w, b, x, y, eps=0.0), clean)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_gradient_is_that_of_finite_differences(eps):
    (x, y), (w, b) = rows(2), weights(2)
    grad_w, grad_b, grad_reach = linear.gradient(linear.margins(w, b, x, y, eps=eps), x, y)
    found = np.append(grad_w + eps * grad_reach * np.sign(w), grad_b)
    expected = approx_fprime(np.append(w, b), lambda point: loss(point[:-1], point[-1], x, y, eps), 1e-7)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_standard_optimum_is_scikit_learns(l2):
    x, y = rows(3)
    found = linear.fit_optimum(x, y, eps=0.0, l2=l2, **OPTIMUM)
    peer = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-10, max_iter=5000).fit(x, y)
    assert found.w == pytest.approx(peer.coef_[0], abs=1e-4)
    assert found.b == pytest.approx(peer.intercept_[0], abs=1e-4)
    assert found.objective == pytest.approx(loss(found.w, found.b, x, y, 0.0, l2), abs=1e-12)


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.25])
def test_robust_optimum_is_that_of_a_search_without_gradients(eps):
    x, y = rows(4, d=2)

    def objective(point):
        return loss(point[:2], point[2], x, y, eps)

    found = linear.fit_optimum(x, y, eps=eps, l2=0.0, **OPTIMUM)
    simplex = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000}
    starts = [np.zeros(3), np.array([1.0, 1.0, 0.0]), np.array([3.0, 0.0, -1.0])]
    searches = [minimize(objective, start, method="Nelder-Mead", options=simplex) for start in starts]
    best = min(searches, key=lambda search: search.fun)
    assert found.objective <= best.fun + 1e-9
    assert np.append(found.w, found.b) == pytest.approx(best.x, abs=1e-3)


def test_robust_optimum_uses_no_feature_whose_class_means_are_closer_than_the_adversary_reaches():
    x, y = rows(5, n=400, d=8)
    found = linear.fit_optimum(x, y, eps=0.15, l2=0.0, **OPTIMUM)
    assert 0 < (found.w != 0).sum() < 8
    grad_w, _, grad_reach = linear.gradient(linear.margins(found.w, found.b, x, y, eps=0.15), x, y)
    assert (np.abs(grad_w[found.w == 0]) <= 0.15 * grad_reach + 1e-6).all()
    assert np.abs(grad_w[found.w != 0]) == pytest.approx(0.15 * grad_reach, abs=1e-6)


def test_the_adversary_can_take_every_feature():
    x, y = rows(6)
    found = linear.fit_optimum(x, y, eps=1.0, l2=0.0, **OPTIMUM)
    assert not found.w.any()
    assert found.b == pytest.approx(np.log((y > 0).sum() / (y < 0).sum()), abs=1e-5)


def test_constant_features_have_no_weight():
    x, y = rows(7)
    padded = np.hstack([np.zeros((len(y), 1)), x, np.ones((len(y), 1))])
    found = linear.fit_optimum(padded, y, eps=0.05, l2=1e-3, **OPTIMUM)
    assert found.w[[0, -1]].tolist() == [0, 0]
    assert np.array_equal(found.w[1:-1], linear.fit_optimum(x, y, eps=0.05, l2=1e-3, **OPTIMUM).w)


def test_optimum_that_is_not_reached_is_an_error():
    x, y = rows(8)
    with pytest.raises(FloatingPointError, match="within 2 iterations"):
        linear.fit_optimum(x, y, eps=0.0, l2=1e-3, tolerance=1e-7, max_iterations=2)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_sgd_nears_the_optimum(eps):
    x, y = rows(9)
    y[::6] *= -1  # wrong labels, so that no model has all of them right and an optimum exists
    best = linear.fit_optimum(x, y, eps=eps, l2=0.0, **OPTIMUM)
    found = linear.fit_sgd(x, y, eps=eps, **{**SGD, "epochs": 1500})
    assert best.objective <= found.objective <= best.objective + 1e-3
    assert found.iterations == 1500 * 6


def test_sgd_of_one_full_batch_is_gradient_descent():
    x, y = rows(10)
    found = linear.fit_sgd(x, y, eps=0.1, lr=0.5, batch_size=len(y), epochs=1, seed=0)
    assert found.w == pytest.approx(0.5 * (y @ x) / 2 / len(y), abs=1e-12)
    assert found.b == pytest.approx(0.5 * y.mean() / 2, abs=1e-12)


def test_sgd_depends_on_its_seed_only():
    x, y = rows(11)
    first, again = (linear.fit_sgd(x, y, eps=0.1, **SGD) for _ in range(2))
    other = linear.fit_sgd(x, y, eps=0.1, **{**SGD, "seed": 1})
    assert np.array_equal(first.w, again.w)
    assert not np.array_equal(first.w, other.w)


def test_attack_counts_fall_with_eps_and_the_box_only_helps():
    (x, y), (w, b) = rows(12), weights(12)
    model = linear.Model(w, b, 0, 0.0, 0.0)
    counts = {
        (row["attack"], row["eps_test"]): row["n_correct"] for row in linear.attack_counts(model, x, y, [0.1, 0.3])
    }
    assert counts["none", 0.0] == (np.sign(x @ w + b) == y).sum()
    assert counts["none", 0.0] >= counts["linf", 0.1] >= counts["linf", 0.3]
    assert all(counts["linf-box", eps] >= counts["linf", eps] for eps in (0.1, 0.3))


def test_select_features_trains_on_the_features_it_names():
    train, test = rows(13), rows(14)
    fit = partial(linear.fit_optimum, l2=1e-3, **OPTIMUM)
    table = linear.select_features(fit, train, test, n_kept=[2, 4], eps_grid=[0.1])
    assert [row["n_kept"] for row in table] == [2, 2, 2, 4, 4, 4]
    kept = np.argsort(-np.abs(linear.correlation(*train)))[:2]
    model = fit(train[0][:, kept], train[1], eps=0.0)
    assert table[0]["n_correct"] == (np.sign(test[0][:, kept] @ model.w + model.b) == test[1]).sum()
    assert table[0]["lowest_kept"] == pytest.approx(abs(linear.correlation(*train)[kept[1]]))


def test_describe_and_mass_of_known_weights():
    w, correlations = np.array([2.0, -1.0, 0.0, 1.0, 1e-6]), np.array([0.5, -0.3, 0.1, 0.05, 0.01])
    told = linear.describe(linear.Model(w, 0.0, 3, 0.5, 0.1), correlations, used=1e-3)
    assert told["l1_norm"] == pytest.approx(4, abs=1e-5)
    assert (told["n_used"], told["lowest_used"], told["iterations"]) == (3, 0.05, 3)
    low, high = linear.mass_below(w, correlations, [0.1, 0.4])
    assert low["n_features"] == 2  # under 0.1, not at it
    assert (low["share"], low["largest"]) == (pytest.approx(0.25, abs=1e-5), pytest.approx(0.5))
    assert high["share"] == pytest.approx(0.5, abs=1e-5)


def test_a_model_without_weights_uses_nothing():
    told = linear.describe(linear.Model(np.zeros(2), 0.0, 1, 0.0, 0.0), np.array([0.5, 0.1]), used=1e-3)
    assert (told["n_used"], told["lowest_used"]) == (0, 1.0)
    assert linear.mass_below(np.zeros(2), np.array([0.5, 0.1]), [0.3])[0]["share"] == 0


def test_report_gives_every_table_of_one_model():
    train, test = rows(15), rows(16)
    model = linear.fit_optimum(*train, eps=0.0, l2=1e-3, **OPTIMUM)
    tables = linear.report(model, train, test, eps_grid=[0.1], used=1e-3, thresholds=[0.2])
    assert [len(tables[name]) for name in ("models", "accuracy", "features", "mass")] == [1, 6, 4, 1]
    assert [row["weight"] for row in tables["features"]] == model.w.tolist()
    assert set(tables) < set(linear.TABLES)


def test_noise_is_appended_nested_and_fair():
    x, y = rows(17, n=300)
    small, large = (linear.noisy_sample(x, y, n, n_noise=50, seed=3)[0] for n in (100, 300))
    assert small.shape == (100, 54)
    assert np.array_equal(small, large[:100])
    assert set(np.unique(large[:, 4:])) == {0.0, 1.0}
    assert large[:, 4:].mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(np.sort(large[:, :4], axis=0), np.sort(x, axis=0))


def test_noise_of_more_examples_than_there_are_is_rejected():
    x, y = rows(18)
    with pytest.raises(ValueError, match="between 1 and 60"):
        linear.noisy_sample(x, y, 61, n_noise=5, seed=0)


def test_standard_training_weighs_noise_and_robust_training_does_not():
    sample = linear.noisy_sample(*rows(19, n=500), 500, n_noise=30, seed=0)
    fit = partial(linear.fit_optimum, l2=1e-4, **OPTIMUM)
    standard, robust = linear.weight_on_noise(fit, *sample, n_noise=30, eps_grid=[0.0, 0.15], used=1e-3)
    assert standard["noise_share"] > 0.2
    assert (robust["noise_share"], robust["n_noise_used"]) == (0, 0)
    assert standard["noise_correlation"] == pytest.approx(np.sqrt(2 / np.pi / 500), rel=0.3)
