"""Section 2: closed forms against integration and simulation, the theorems against brute force."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, linprog
from scipy.stats import norm
from sklearn.svm import LinearSVC

from robacc.paper import theory, theory_samples
from robacc.paper.theory import Distribution
from robacc.params import Fit

Z = np.linspace(-10, 10, 20001)  # of a standard normal, for integrals by the trapezoidal rule
DENSITY = norm.pdf(Z)

distributions = st.builds(
    theory.pooled, p=st.floats(0.5, 0.99), d=st.integers(1, 300), strength=st.floats(0.2, 6, exclude_min=True)
)
angles = st.floats(-math.pi, math.pi)


def integrated(dist, w, eps, outcome):
    """Return E outcome(margin) of the weights w [d + 1] by numerical integration, straight from the definition of D."""
    total = 0.0
    for sign, probability in ((1, dist.p), (-1, 1 - dist.p)):
        mean = sign * w[0] + dist.eta * sum(w[1:]) - eps * sum(abs(w))
        total += probability * np.trapezoid(DENSITY * outcome(mean + math.sqrt(sum(w[1:] ** 2)) * Z), Z)
    return total


def full(dist, angle):
    return np.array([math.cos(angle), *[math.sin(angle) / math.sqrt(dist.d)] * dist.d])


def simulated_accuracy(dist, w, eps, n, rng):
    """Return accuracy under the worst corner of the cube, written without the library."""
    y = np.where(rng.random(n) < 0.5, 1, -1)
    x = np.empty((n, dist.d + 1))
    x[:, 0] = y * np.where(rng.random(n) < dist.p, 1, -1)
    for i in range(1, dist.d + 1):
        x[:, i] = rng.normal(dist.eta * y, 1)
    return np.mean(y * (x @ w) - eps * np.abs(w).sum() > 0)


# ---- Closed forms -------------------------------------------------------------------------------------------------


@given(dist=distributions, angle=angles, share=st.floats(0, 3))
def test_hinge_is_its_integral(dist, angle, share):
    w, eps = full(dist, angle), share * dist.eta
    expected = integrated(dist, w, eps, lambda margin: np.maximum(0, 1 - margin))
    assert theory.hinge(dist, theory.weights(w), eps=eps) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert theory.hinge(dist, theory.unit(dist, angle), eps=eps) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_accuracy_of_any_linear_classifier_is_the_simulated_one(seed, share):
    rng = np.random.default_rng(seed)
    dist, n = theory.pooled(p=0.6 + 0.1 * seed, d=7, strength=1.2), 100_000
    w, eps = rng.normal(0.4, 0.5, 8), share * dist.eta
    exact = float(theory.accuracy(dist, theory.weights(w), eps=eps))
    error = math.sqrt(exact * (1 - exact) / n)
    assert abs(simulated_accuracy(dist, w, eps, n, rng) - exact) < 4 * error


@given(dist=distributions, share=st.floats(0, 3))
def test_the_mean_has_the_papers_accuracy(dist, share):
    eps = share * dist.eta
    pooled = theory.accuracy(dist, theory.symmetric(dist, 0, 1 / dist.d), eps=eps)
    assert pooled == pytest.approx(norm.cdf((dist.eta - eps) * math.sqrt(dist.d)), abs=1e-12)


@given(dist=distributions)
def test_at_two_eta_the_robust_accuracy_of_the_mean_is_its_standard_error(dist):
    std_acc, rob_acc = (theory.accuracy(dist, theory.symmetric(dist, 0, 1), eps=eps) for eps in (0, 2 * dist.eta))
    assert rob_acc == pytest.approx(1 - std_acc, abs=1e-12)


@pytest.mark.parametrize(("eps", "expected"), [(0.0, 0.8), (0.999, 0.8), (1.0, 0.0), (1.5, 0.0)])
def test_the_first_feature_alone_resists_every_eps_below_one(eps, expected):
    dist = Distribution(0.8, 10, 0.1)
    assert theory.accuracy(dist, theory.symmetric(dist, 1, 0), eps=eps) == expected


def test_the_sampler_has_the_moments_of_the_distribution():
    dist, n = Distribution(0.8, 3, 0.4), 200_000
    x, y = theory.sample(dist, n, theory.generator(0, 0))
    assert set(np.unique(y)) == {-1.0, 1.0}
    assert abs(y.mean()) < 4 / math.sqrt(n)
    assert set(np.unique(x[:, 0])) == {-1.0, 1.0}
    assert abs((x[:, 0] * y).mean() - (2 * 0.8 - 1)) < 4 / math.sqrt(n)
    noise = x[:, 1:] - dist.eta * y[:, None]
    assert np.abs(noise.mean(0)).max() < 4 / math.sqrt(n)
    assert np.abs(noise.T @ noise / n - np.eye(3)).max() < 6 / math.sqrt(n)
    again, other = (theory.sample(dist, n, theory.generator(seed, 0))[0] for seed in (0, 1))
    assert np.array_equal(again, x)
    assert not np.array_equal(other, x)


@pytest.mark.parametrize("seed", range(3))
def test_its_own_monte_carlo_agrees(seed):
    dist = theory.pooled(p=0.8, d=20, strength=1.0)
    rows = theory.checks(dist, eps=2 * dist.eta, n=20_000, seed=seed)
    assert len(rows) == 12
    assert max(abs(row["z"]) for row in rows) < 4


def test_monte_carlo_needs_a_sampling_error():
    dist = Distribution(1.0, 2, 0.1)
    with pytest.raises(ValueError, match=r"expected accuracy at eps 0\.0 to vary in a sample of n = 10, got 1\.0"):
        theory.monte_carlo(dist, np.array([1.0, 0.0, 0.0]), eps=0.2, n=10, seed=0)


# ---- Theorem 2.1 --------------------------------------------------------------------------------------------------


@given(dist=distributions, seed=st.integers(0, 2**32), share=st.floats(2, 4))
def test_no_linear_classifier_violates_the_bound(dist, seed, share):
    rng, eps = np.random.default_rng(seed), share * dist.eta
    for scale in (0.0, 0.1, 1.0, 10.0):
        w = np.append(scale * rng.normal(), rng.normal(rng.normal(), abs(rng.normal()), dist.d))
        std_acc, rob_acc = (theory.accuracy(dist, theory.weights(w), eps=radius) for radius in (0, eps))
        assert rob_acc <= theory.robust_bound(dist, std_acc, eps=eps) + 1e-12
        assert rob_acc <= std_acc + 1e-12


@given(p=st.floats(0.5, 0.99), eta=st.floats(0.01, 3), seed=st.integers(0, 2**32))
def test_no_classifier_of_any_shape_violates_the_bound(p, eta, seed):
    """d = 1, any function of x1 and x2 that is constant on 40 random intervals, whose probabilities are exact."""
    rng = np.random.default_rng(seed)
    edges = np.sort(np.append([-np.inf, np.inf], rng.normal(0, 1 + eta, 39)))
    says_plus = {x1: rng.random(40) < rng.random() for x1 in (1, -1)}

    def accuracy(direction):
        total = 0.0
        for y in (1, -1):
            mass = np.diff(norm.cdf(edges - direction * eta * y))
            for x1, probability in ((y, p), (-y, 1 - p)):
                total += 0.5 * probability * mass @ (says_plus[x1] == (y == 1))
        return total

    dist = Distribution(p, 1, eta)
    assert accuracy(-1) <= theory.robust_bound(dist, accuracy(1), eps=2 * eta) + 1e-12  # -1: shifted by -2 eta y


@pytest.mark.parametrize("p", [0.5, 0.7, 0.95])
def test_the_bound_is_tight(p):
    dist = Distribution(p, 50, 0.2)
    std_acc, rob_acc = (theory.accuracy(dist, theory.symmetric(dist, 1, 0), eps=eps) for eps in (0.0, 0.4))
    assert std_acc == rob_acc == p
    assert theory.robust_bound(dist, std_acc, eps=0.4) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("p", [0.7, 0.95])
def test_with_many_weaker_features_all_of_the_bound_is_reached(p):
    dist = theory.pooled(p=p, d=10**10, strength=6)
    rows = theory.frontier(dist, 2001, eps=2 * dist.eta)
    assert min(row["rob_acc"] for row in rows) < 0.01
    assert max(row["rob_acc"] for row in rows) == p
    assert all(row["bound"] - row["rob_acc"] == pytest.approx(0, abs=1e-3) for row in rows)


@pytest.mark.parametrize(
    ("p", "eps", "message"),
    [(1.0, 0.4, r"expected p below 1 for Theorem 2.1, got 1\.0"), (0.9, 0.39, r"at least 2 eta = 0\.4 .* got 0\.39")],
)
def test_the_bound_names_the_hypothesis_that_fails(p, eps, message):
    with pytest.raises(ValueError, match=message):
        theory.robust_bound(Distribution(p, 50, 0.2), 0.9, eps=eps)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.4, 10, 0.1), "expected p between 0.5 and 1, got 0.4"),
        ((math.nan, 10, 0.1), "expected p between 0.5 and 1, got nan"),
        ((0.9, 0, 0.1), "expected d to be at least 1, got 0"),
        ((0.9, 10, 0.0), "expected eta to be a finite number above 0, got 0.0"),
        ((0.9, 10, math.inf), "expected eta to be a finite number above 0, got inf"),
    ],
)
def test_a_distribution_names_the_value_that_is_not_allowed(values, message):
    with pytest.raises(ValueError, match=message):
        Distribution(*values)


# ---- Theorem 2.2 --------------------------------------------------------------------------------------------------


def brute_force(dist, eps):
    """Return the least hinge loss over the whole circle of (w1, v sqrt(d)), integrated, and its angle."""
    circle = np.linspace(-math.pi, math.pi, 1441)
    z, density = Z[::5], DENSITY[::5]
    losses = np.zeros(len(circle))
    for sign, probability in ((1, dist.p), (-1, 1 - dist.p)):
        pull = dist.eta * math.sqrt(dist.d) * np.sin(circle) + sign * np.cos(circle)
        norm1 = np.abs(np.cos(circle)) + math.sqrt(dist.d) * np.abs(np.sin(circle))
        margin = (pull - eps * norm1)[:, None] + np.abs(np.sin(circle))[:, None] * z
        losses += probability * np.trapezoid(density * np.maximum(0, 1 - margin), z, axis=1)
    return losses.min(), circle[losses.argmin()]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0, 2.0])
@pytest.mark.parametrize(("p", "d", "strength"), [(0.5, 100, 1), (0.7, 400, 2), (0.95, 400, 1), (0.975, 100, 4)])
def test_the_optimum_is_found_by_search_over_all_directions(p, d, strength, share):
    dist = theory.pooled(p=p, d=d, strength=strength)
    best = theory.optimum(dist, eps=share * dist.eta)
    assert math.hypot(best.first, best.weak * math.sqrt(d)) == pytest.approx(1, abs=1e-12)
    least, angle = brute_force(dist, share * dist.eta)
    assert best.hinge == pytest.approx(least, rel=2e-3, abs=1e-6)
    assert best.hinge <= least + 2e-6
    if p > 0.5:  # at 0.5 the sign of w1 makes no difference
        assert math.atan2(best.weak * math.sqrt(d), best.first) == pytest.approx(angle, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("p", "d", "strength"), [(0.9, 100, 4), (0.95, 100, 1), (0.7, 300, 2)])
def test_with_a_penalty_no_other_classifier_of_norm_one_or_less_is_better(p, d, strength, share):
    dist = theory.pooled(p=p, d=d, strength=strength)
    eps = share * dist.eta
    best = theory.optimum(dist, eps=eps)
    assert best.penalty >= 0  # below it only symmetric classifiers are compared
    centre, rng = np.append(best.first, np.full(d, best.weak)), np.random.default_rng(0)
    for near in (0.01, 0.1, 1.0, 100.0):
        for _ in range(200):
            w = centre + near * rng.normal(size=d + 1) / math.sqrt(d) * np.append(
                rng.normal() * math.sqrt(d), np.ones(d)
            )
            w *= min(1, rng.random() + 0.5) / np.linalg.norm(w)
            assert theory.hinge(dist, theory.weights(w), eps=eps) >= best.hinge - 1e-12
    for scale in np.linspace(0, 1, 11):
        for angle in np.linspace(-math.pi, math.pi, 73):
            w = scale * full(dist, angle)
            assert theory.hinge(dist, theory.weights(w), eps=eps) >= best.hinge - 1e-12


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_the_penalty_is_minus_the_slope_of_the_loss_in_the_norm(share):
    dist = theory.pooled(p=0.9, d=400, strength=3)
    best, step, eps = theory.optimum(dist, eps=share * dist.eta), 1e-5, share * dist.eta
    scaled = [theory.symmetric(dist, t * best.first, t * best.weak) for t in (1 + step, 1 - step)]
    up, down = (theory.hinge(dist, w, eps=eps) for w in scaled)
    assert best.penalty == pytest.approx(-(up - down) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("p", [0.75, 0.9, 0.975])
@pytest.mark.parametrize("strength", [4.0, 4.5, 6.0, 10.0, 20.0])
@pytest.mark.parametrize("d", [1600, 10_000, 10**8])
def test_theorem_2_2_has_the_papers_numbers(p, strength, d):
    dist = theory.pooled(p=p, d=d, strength=strength)
    for eps in (2 * dist.eta, (2 * dist.eta + 1) / 2, 0.999999):
        if theory.violated_hypothesis(dist, eps=eps):
            assert strength == 20
            assert d == 1600
            continue
        standard, robust = (theory.optimum(dist, eps=trained) for trained in (0.0, eps))
        w = theory.symmetric(dist, standard.first, standard.weak)
        assert theory.accuracy(dist, w, eps=0.0) > 0.9999  # the paper: 0.99
        assert theory.accuracy(dist, w, eps=eps) < 0.001  # the paper: 0.01
        assert (robust.first, robust.weak) == (1.0, 0.0)
        w = theory.symmetric(dist, robust.first, robust.weak)
        assert theory.accuracy(dist, w, eps=0.0) == theory.accuracy(dist, w, eps=eps) == p


@pytest.mark.parametrize(
    ("p", "d", "eta", "eps", "hypothesis"),
    [
        (0.9, 100, 0.39, 0.8, "eta >= 4 / sqrt(d)"),
        (0.976, 400, 0.2, 0.4, "p <= 0.975"),
        (0.9, 400, 0.2, 0.39, "eps >= 2 eta"),
        (0.9, 400, 0.2, 1.0, "eps < 1"),
        (0.55, 400, 0.2, 0.4, "p >= (1 + eta) / 2"),
        (0.9, 400, 0.2, 0.4, ""),
    ],
)
def test_the_hypothesis_of_theorem_2_2_that_fails_is_named(p, d, eta, eps, hypothesis):
    assert theory.violated_hypothesis(Distribution(p, d, eta), eps=eps) == hypothesis


def test_without_our_hypothesis_one_weak_feature_can_beat_the_first():
    """The paper asks only for p <= 0.975 and eps < 1."""
    dist, eps = Distribution(0.5, 400, 0.2), 0.9
    first, single = (theory.weights(np.eye(401)[i]) for i in (0, 1))
    assert theory.optimum(dist, eps=eps)[:2] == (1.0, 0.0)  # the best symmetric one is the paper's
    assert theory.hinge(dist, single, eps=eps) < theory.hinge(dist, first, eps=eps) - 0.1


@given(
    eta=st.floats(0.01, 0.45),
    above=st.floats(0, 1),
    share=st.floats(0, 1),
    d=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_with_it_nothing_of_unit_norm_beats_the_first_feature_from_eps_eta_on(eta, above, share, d, seed):
    dist = Distribution((1 + eta) / 2 + above * (1 - (1 + eta) / 2), d, eta)
    eps = eta + share * (1 - eta)
    least = theory.hinge(dist, theory.symmetric(dist, 1, 0), eps=eps)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        w = rng.normal(size=d + 1) * (rng.random(d + 1) < rng.random()) + 1e-9
        assert theory.hinge(dist, theory.weights(w / np.linalg.norm(w)), eps=eps) >= least - 1e-8


def test_below_eps_eta_adversarial_training_still_uses_the_weak_features():
    """So "any eps < 1" in Theorem 2.2 has to mean eps of at least eta."""
    dist = theory.pooled(p=0.9, d=10_000, strength=4)
    best = theory.optimum(dist, eps=0.5 * dist.eta)
    assert best.weak > 0.001
    assert theory.accuracy(dist, theory.symmetric(dist, best.first, best.weak), eps=0.0) > 0.99


def test_a_loss_too_small_for_a_float_is_refused():
    with pytest.raises(FloatingPointError, match=r"expected eta \* sqrt\(d\) below 37, got 60"):
        theory.optimum(theory.pooled(p=0.9, d=10**6, strength=60), eps=0.0)


@pytest.mark.parametrize(("d", "eta"), [(20, 0.3), (10**6, 0.06)])
def test_where_the_first_feature_is_always_right_it_has_no_loss(d, eta):
    assert theory.optimum(Distribution(1.0, d, eta), eps=0.0) == (1.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("p", [0.5, 0.52])
def test_where_the_first_feature_is_worth_nothing_its_weight_is_zero(p):
    """The optimum is at the end of the search, where the robust pull on w1 is at least what it brings."""
    dist = Distribution(p, 20, 0.3)
    best = theory.optimum(dist, eps=0.1)
    assert best.first == 0.0
    assert best.weak == pytest.approx(1 / math.sqrt(20), abs=1e-15)
    assert best.hinge == pytest.approx(brute_force(dist, 0.1)[0], rel=2e-3)


# ---- Trained classifiers ------------------------------------------------------------------------------------------

FIT = Fit(
    n_train=1500,
    svm_eps=[1.0, 2.0],
    svm_smoothing=0.01,
    svm_max_gap=0.001,
    logistic_c=1.0,
    net_hidden=16,
    net_epochs=20,
    net_penalty=0.01,
    trees=10,
    tree_leaves=4,
    tree_rate=0.3,
)
SMALL = theory.pooled(p=0.9, d=60, strength=2)


@pytest.fixture(scope="module")
def data():
    return theory.sample(SMALL, FIT.n_train, theory.generator(0, 0))


@pytest.fixture(scope="module")
def classifiers():
    return theory_samples.trained(SMALL, FIT, seed=0)


def objective(w, x, y, eps, penalty):
    return np.maximum(0, 1 - y * (x @ w) + eps * np.abs(w).sum()).mean() + penalty / 2 * w @ w


def test_adversarial_svm_at_eps_zero_is_scikit_learns(data):
    x, y = data
    w, gap = theory_samples.adversarial_svm(x, y, eps=0.0, penalty=0.02, smoothing=0.001)
    svc = LinearSVC(
        loss="hinge", C=1 / (0.02 * len(y)), fit_intercept=False, tol=1e-8, max_iter=10**6, random_state=0
    ).fit(x, y)
    least = objective(svc.coef_[0], x, y, 0.0, 0.02)
    assert 0 <= objective(w, x, y, 0.0, 0.02) - least + 1e-9 <= gap + 1e-9 < 1e-3
    assert np.abs(w - svc.coef_[0]).max() < 0.01


@pytest.mark.parametrize("eps", [0.1, 0.25])
def test_adversarial_svm_is_the_optimum_of_a_linear_programme(eps):
    """Without the penalty the problem is a linear programme; a small penalty moves its value by at most that."""
    x, y = theory.sample(Distribution(0.8, 4, 0.5), 120, theory.generator(3, 0))
    n, size = x.shape
    signed = x * y[:, None]
    rows = np.hstack([-signed + eps, signed + eps, -np.eye(n)])  # 1 - y w.x + eps |w| <= slack
    cost = np.concatenate([np.zeros(2 * size), np.full(n, 1 / n)])
    programme = linprog(cost, rows, -np.ones(n), bounds=(0, None), method="highs")
    w, gap = theory_samples.adversarial_svm(x, y, eps=eps, penalty=1e-3, smoothing=1e-3)
    best = programme.x[:size] - programme.x[size : 2 * size]
    assert objective(w, x, y, eps, 0.0) >= programme.fun - 1e-9
    assert objective(w, x, y, eps, 1e-3) <= objective(best, x, y, eps, 1e-3) + gap + 1e-9
    assert -1e-9 <= gap < 1e-3


def test_an_svm_that_did_not_converge_is_refused(data):
    tight = FIT.model_copy(update={"svm_max_gap": 1e-9})
    with pytest.raises(FloatingPointError, match=r"expected a duality gap of at most 1e-09"):
        list(theory_samples.svms(*data, SMALL, tight, seed=0))


def test_an_svm_without_a_penalty_is_refused(data):
    with pytest.raises(ValueError, match=r"expected svm_eps that leave a margin to learn at p = 0\.6"):
        list(theory_samples.svms(*data, replace(SMALL, p=0.6), FIT, seed=0))


def test_an_svm_trained_on_samples_comes_near_theorem_2_2():
    dist = theory.pooled(p=0.9, d=400, strength=4)
    x, y = theory.sample(dist, 4000, theory.generator(0, 0))
    standard, *_, robust = theory_samples.svms(x, y, dist, FIT, seed=0)
    std_acc, rob_acc = (theory.accuracy(dist, theory.weights(standard.weights), eps=e) for e in (0, 2 * dist.eta))
    assert std_acc > 0.99
    assert rob_acc < 0.01
    assert theory.accuracy(dist, theory.weights(robust.weights), eps=0.0) == pytest.approx(0.9, abs=1e-3)
    assert theory.accuracy(dist, theory.weights(robust.weights), eps=2 * dist.eta) == pytest.approx(0.9, abs=1e-3)


def test_the_gradient_of_the_net_is_its_finite_difference(classifiers):
    (net,) = (each for each in classifiers if each.kind == "neural net")
    x = np.random.default_rng(0).normal(size=(5, SMALL.d + 1))
    for row in x:
        expected = approx_fprime(row, lambda z: net.margin(z[None])[0], 1e-7)
        assert net.gradient(row[None])[0] == pytest.approx(expected, abs=1e-5)


def test_adversarial_examples_stay_in_their_ball_and_are_the_worst_tried(classifiers):
    x, y = theory_samples.draws(SMALL, 200, seed=5)
    before, eps = x.copy(), 2 * SMALL.eta
    shift = theory_samples.shifted(x, y, eps=eps)
    assert np.array_equal(shift[:, 0], x[:, 0])
    assert np.allclose(shift[:, 1:], x[:, 1:] - eps * y[:, None])
    for each in classifiers:
        x_adv = theory_samples.attack(each, x, y, eps=eps, n_steps=5)
        assert np.abs(x_adv - x).max() <= eps + 1e-12
        assert np.all(y * each.margin(x_adv) <= y * each.margin(x) + 1e-12)
        assert np.all(y * each.margin(x_adv) <= y * each.margin(shift) + 1e-12)
    assert np.array_equal(x, before)


def test_attacks_find_the_closed_form_of_a_linear_classifier(classifiers):
    """PGD and the draws, used on a classifier that hides its weights."""
    linear = next(each for each in classifiers if each.kind == "logistic regression")
    x, y = theory_samples.draws(SMALL, 5000, seed=1)
    exact = theory_samples.exact(SMALL, linear.weights, eps=2 * SMALL.eta)
    found = theory_samples.measured(SMALL, replace(linear, weights=None), x, y, eps=2 * SMALL.eta, n_steps=5)
    for quantity in ("std", "rob"):
        assert abs(found[f"{quantity}_acc"] - exact[f"{quantity}_acc"]) < 4 * found[f"{quantity}_se"]


def test_the_first_feature_is_averaged_exactly():
    x, y = theory_samples.draws(SMALL, 50, seed=0)
    assert np.array_equal(theory_samples.over_x1(SMALL, x[:, 0] == y), np.full(50, SMALL.p))
    assert np.array_equal(x[:50, 1:], x[50:, 1:])


def test_no_trained_classifier_exceeds_the_bound_and_examples_transfer():
    eps = 2 * SMALL.eta
    points, transfers = theory_samples.study(SMALL, FIT, n_seeds=2, n_test=1000, eps=eps, n_steps=5)
    assert len(points) == 2 * 6
    for row in points:
        assert row["excess"] <= 4 * row["excess_se"] + 1e-12
        assert row["adversary"].startswith("closed form" if row["n_test"] == 0 else "attack: ")
        assert (row["gap"] is None) == (row["kind"] != "adversarial SVM")
    assert {row["source"] for row in transfers} == {"distribution", "SVM", "logistic regression", "neural net"}
    for row in transfers:
        assert row["seed_victim"] == 1 - row["seed"]
        if row["victim"] in ("SVM", "logistic regression", "neural net"):
            assert row["adv_acc"] < 0.3
        if row["victim"] == "adversarial SVM" and row["eps_train"] == eps:
            assert row["adv_acc"] == pytest.approx(SMALL.p, abs=0.01)


def test_victims_are_trained_on_other_examples_than_sources(classifiers):
    eps = 2 * SMALL.eta
    _, transfers = theory_samples.study(SMALL, FIT, n_seeds=2, n_test=300, eps=eps, n_steps=5)
    x, y = theory_samples.draws(SMALL, 300, seed=1)  # seed 1 attacks, the classifiers of seed 0 are its victims
    expected = theory_samples.transfer(SMALL, [], classifiers, x, y, eps=eps, n_steps=5)
    shown = [row for row in transfers if row["seed"] == 1 and row["source"] == "distribution"]
    assert [row["adv_acc"] for row in shown] == [row["adv_acc"] for row in expected]


def test_transfer_from_the_distribution_is_the_closed_form_of_a_linear_victim(classifiers):
    eps, victim = 2 * SMALL.eta, next(each for each in classifiers if each.kind == "SVM")
    x, y = theory_samples.draws(SMALL, 5000, seed=2)
    (row,) = theory_samples.transfer(SMALL, [], [victim], x, y, eps=eps, n_steps=1)
    w = victim.weights
    mean, spread = (SMALL.eta - eps) * w[1:].sum(), np.linalg.norm(w[1:])
    expected = SMALL.p * norm.cdf((mean + w[0]) / spread) + (1 - SMALL.p) * norm.cdf((mean - w[0]) / spread)
    assert abs(row["adv_acc"] - expected) < 4 * row["adv_se"]


def test_training_repeats_and_seeds_differ(classifiers):
    again, other = (theory_samples.trained(SMALL, FIT, seed=seed) for seed in (0, 1))
    x, _ = theory_samples.draws(SMALL, 20, seed=9)
    for one, two, three in zip(classifiers, again, other, strict=True):
        assert np.array_equal(one.margin(x), two.margin(x))
        if one.eps_train < 2 * SMALL.eta:  # at 2 eta all seeds find sign(x1)
            assert not np.array_equal(one.margin(x), three.margin(x))


def test_a_study_needs_two_seeds():
    with pytest.raises(ValueError, match="expected n_seeds of at least 2, got 1"):
        theory_samples.study(SMALL, FIT, n_seeds=1, n_test=10, eps=1.0, n_steps=1)
