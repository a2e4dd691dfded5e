"""Compute intervals of a share, and of the difference of two shares on the same examples."""

from math import sqrt
from statistics import NormalDist

from scipy.stats import binomtest


def wilson(correct: int, n: int, *, confidence: float) -> tuple[float, float]:
    """Return the Wilson score interval (1927) of a proportion, with `confidence` in (0, 1).

    It is SciPy's. Unlike the normal interval it stays in [0, 1] and is accurate near 0 and 1. Raises ValueError unless
    0 <= correct <= n and n > 0.
    """
    interval = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test (1947) that two models have equal accuracy.

    `only_first` and `only_second` count the examples on which only that model is right. Under equal accuracy, each
    count is half of their sum on average. Examples on which the models agree carry no information.
    """
    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def paired_difference(only_first: int, only_second: int, n: int, *, confidence: float) -> tuple[float, float]:
    """Return the interval of the first accuracy minus the second, both on the same `n` examples.

    It is Wald's with half an example added to each count of disagreement (Agresti & Min 2005). Raises ValueError for
    counts that are negative or exceed `n`, and for n = 0.
    """
    if not 0 <= only_first + only_second <= n or min(only_first, only_second) < 0 or n == 0:
        raise ValueError(f"expected two counts that sum to at most n > 0, got {only_first}, {only_second} of {n}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    first, second, total = only_first + 0.5, only_second + 0.5, n + 2
    centre = (first - second) / total
    half = z * sqrt(first + second - (first - second) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)
