"""Intervals and tests against scipy, published values and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robacc.paper.intervals import mcnemar, paired_difference, wilson


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
