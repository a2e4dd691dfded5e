"""Compute intervals of a share, of the difference of two shares on the same examples, and of means over seeds."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from scipy import stats
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


def student(values: Sequence[float] | np.ndarray, *, confidence: float) -> tuple[float, float]:
    """Return Student's interval (1908) of the mean of `values` [n], independent and about normal.

    Raises ValueError for fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"expected two values or more for an interval, got {len(values)}; train more seeds")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def crossed(differences: np.ndarray, *, confidence: float) -> tuple[float, float]:
    """Return the interval of the mean of `differences` [seeds S, images I], where both are random.

    The model is d_si = mu + a_s + b_i + e_si, with independent effects of the seed, of the image and of the pair. The
    mean squares of the two-way analysis of variance estimate the variance of the mean, without bias:

        (MS_seeds + MS_images - MS_rest) / (S I)

    A negative estimate of a component counts as 0. The degrees of freedom of this sum are Satterthwaite's (1946); see
    Searle, Casella and McCulloch, Variance Components (1992), chapters 2 and 4. `student` over the seeds' means is the
    term of MS_seeds alone, for these images. Raises ValueError unless S and I are at least 2.
    """
    n_seeds, n_images = differences.shape
    if min(n_seeds, n_images) < 2:
        raise ValueError(f"expected two seeds and two images or more, got {n_seeds} and {n_images}")
    mean = differences.mean()
    of_seeds, of_images = differences.mean(1) - mean, differences.mean(0) - mean
    rest = differences - mean - of_seeds[:, None] - of_images
    degrees = np.array([n_seeds - 1, n_images - 1, (n_seeds - 1) * (n_images - 1)])
    squares = np.array([n_images * (of_seeds**2).sum(), n_seeds * (of_images**2).sum(), (rest**2).sum()]) / degrees
    counts = (squares[:2] > squares[2]).astype(float)
    terms = squares * [*counts, 1 - counts.sum()]
    if not terms.any():
        return float(mean), float(mean)
    freedom = terms.sum() ** 2 / (terms**2 / degrees).sum()
    half = stats.t.ppf((1 + confidence) / 2, freedom) * sqrt(terms.sum() / (n_seeds * n_images))
    return float(mean - half), float(mean + half)
