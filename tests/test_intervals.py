"""Intervals and tests against scipy, published values and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robacc.paper.intervals import crossed, mcnemar, paired_difference, student, wilson


@pytest.mark.parametrize(
    ("correct", "n", "expected"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_interval_is_the_published_one(correct, n, expected):
    """Newcombe 1998, Statistics in Medicine 17, Table I, method 3."""
    assert wilson(correct, n, confidence=0.95) == pytest.approx(expected, abs=5e-5)


@given(n=st.integers(1, 500), correct=st.integers(0, 500))
def test_interval_holds_the_share_and_stays_in_zero_to_one(n, correct):
    correct = min(correct, n)
    low, high = wilson(correct, n, confidence=0.95)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 10), (11, 10)])
def test_impossible_counts_are_refused(correct, n):
    with pytest.raises(ValueError, match="must"):
        wilson(correct, n, confidence=0.95)


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(10, 0) == pytest.approx(2 * 0.5**10)
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) * 0.5**10)
    assert mcnemar(2, 8) == mcnemar(8, 2)


@given(first=st.integers(0, 200), second=st.integers(0, 200), agree=st.integers(1, 5000))
def test_the_paired_interval_holds_the_difference_and_turns_with_the_pair(first, second, agree):
    n = first + second + agree
    low, high = paired_difference(first, second, n, confidence=0.95)
    assert low <= (first - second) / n <= high
    assert paired_difference(second, first, n, confidence=0.95) == pytest.approx((-high, -low))
    assert paired_difference(first, second, n, confidence=0.99)[0] <= low


def test_the_paired_interval_is_agrestis_and_mins():
    """Worked by hand: 10.5 and 0.5 of 22, centre 10/22, variance (11 - 100/22) / 22^2."""
    assert paired_difference(10, 0, 20, confidence=0.95) == pytest.approx((0.2282, 0.6809), abs=5e-5)
    low, high = paired_difference(0, 0, 100, confidence=0.95)  # agreement on all is no certainty
    assert -low == high > 0.01


def test_the_paired_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(400, [0.04, 0.02, 0.94], size=4000)
    limits = [paired_difference(int(a), int(b), 400, confidence=0.95) for a, b, _ in counts]
    covered = np.mean([low <= 0.02 <= high for low, high in limits])
    assert 0.94 < covered < 0.97


@pytest.mark.parametrize(("first", "second", "n"), [(1, 1, 0), (-1, 0, 5), (3, 3, 5)])
def test_impossible_disagreements_are_refused(first, second, n):
    with pytest.raises(ValueError, match=f"got {first}, {second} of {n}"):
        paired_difference(first, second, n, confidence=0.95)


def test_the_interval_over_seeds_is_students():
    values = [0.1, 0.2, 0.4, 0.3]
    expected = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert student(values, confidence=0.9) == pytest.approx(expected)
    with pytest.raises(ValueError, match="got 1; train more seeds"):
        student([0.4], confidence=0.95)


def test_the_crossed_interval_is_the_one_worked_by_hand():
    """The analysis of variance of two rows of three: of 72.83, rows explain 28.17, columns 44.33, and 0.33 is left."""
    table = np.array([[0.0, 2.0, 6.0], [4.0, 6.0, 11.0]])
    grand = table.mean()
    between_rows = 3 * ((table.mean(1) - grand) ** 2).sum()  # 1 degree of freedom
    between_columns = 2 * ((table.mean(0) - grand) ** 2).sum()  # 2
    rest = ((table - grand) ** 2).sum() - between_rows - between_columns  # 2
    assert (between_rows, between_columns, rest) == pytest.approx((28.1667, 44.3333, 0.3333), abs=1e-4)
    terms = np.array([28.1667, 44.3333 / 2, -0.3333 / 2])
    freedom = terms.sum() ** 2 / (terms**2 / [1, 2, 2]).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(terms.sum() / 6)
    assert crossed(table, confidence=0.95) == pytest.approx((grand - half, grand + half), abs=1e-3)


def test_without_effects_of_seeds_the_crossed_interval_is_that_of_the_images():
    images = np.random.default_rng(0).normal(size=400)
    low, high = crossed(np.tile(images, (5, 1)), confidence=0.95)
    assert (low, high) == pytest.approx(student(images, confidence=0.95))


def test_without_effects_of_images_the_crossed_interval_is_that_of_the_seeds():
    seeds = np.random.default_rng(0).normal(size=6)
    assert crossed(np.tile(seeds[:, None], (1, 50)), confidence=0.9) == pytest.approx(student(seeds, confidence=0.9))


def test_equal_differences_leave_no_width():
    assert crossed(np.full((3, 10), 0.25), confidence=0.95) == (0.25, 0.25)


@pytest.mark.parametrize("shape", [(1, 10), (10, 1)])
def test_one_seed_or_one_image_has_no_crossed_interval(shape):
    with pytest.raises(ValueError, match=f"got {shape[0]} and {shape[1]}"):
        crossed(np.zeros(shape), confidence=0.95)


@pytest.mark.parametrize(("of_seed", "of_image", "rest"), [(0.3, 1.0, 3.0), (0.1, 2.0, 1.0), (1.0, 0.5, 1.0)])
def test_the_crossed_interval_covers_as_often_as_it_says(of_seed, of_image, rest):
    """New seeds and new images each time; the interval of the seeds alone covers the mean of all images too seldom."""
    rng, hits, hits_of_seeds, n = np.random.default_rng(1), 0, 0, 1500
    for _ in range(n):
        table = of_seed * rng.normal(size=(8, 1)) + of_image * rng.normal(size=80) + rest * rng.normal(size=(8, 80))
        low, high = crossed(table, confidence=0.95)
        hits += low <= 0 <= high
        low, high = student(table.mean(1), confidence=0.95)
        hits_of_seeds += low <= 0 <= high
    assert 0.935 < hits / n < 0.975
    if of_image > of_seed * np.sqrt(80 / 8):
        assert hits_of_seeds / n < 0.9


def test_the_crossed_interval_covers_differences_of_right_and_wrong():
    """Of two models a seed: right or wrong by a threshold on a latent of seed, image and both, as accuracies are."""
    rng, hits, n = np.random.default_rng(2), 0, 1000
    expected = stats.norm.cdf(1.5 / np.sqrt(1 + 1 + 0.1**2)) - stats.norm.cdf(1.4 / np.sqrt(1 + 1 + 0.1**2))
    for _ in range(n):
        image = rng.normal(size=300)
        right = [level + image + 0.1 * rng.normal(size=(6, 1)) + rng.normal(size=(6, 300)) > 0 for level in (1.5, 1.4)]
        low, high = crossed(right[0].astype(float) - right[1], confidence=0.95)
        hits += low <= expected <= high
    assert 0.93 < hits / n < 0.98
