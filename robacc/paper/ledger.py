"""Define a row of the claims ledger, and the intervals of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

REPRODUCED, NOT_REPRODUCED, NOT_TESTED = "reproduced", "not reproduced", "not tested at this scale"
UNKNOWN = (-1.0, 1.0)  # the interval of a share or difference from a single seed


@dataclass(frozen=True)
class Measure:
    """One share, or difference of shares, that decides a claim.

    `low` and `high` are its interval. `n` is the number of examples.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    seeds: int
    is_difference: bool = False


@dataclass(frozen=True)
class Claim:
    """A row of the ledger.

    `statement` is the paper's claim in our words. `rule` says when it counts as reproduced.
    """

    id: str
    statement: str
    rule: str
    figure: str
    verdict: str
    measures: list[Measure]
    remark: str = ""


def verdict(holds: bool, measures: list[Measure]) -> str:
    """Return the verdict on a claim.

    It is "not tested" without measures, and with a single seed where several are needed.
    """
    if not measures or any((measure.low, measure.high) == UNKNOWN for measure in measures):
        return NOT_TESTED
    return REPRODUCED if holds else NOT_REPRODUCED


def mean_over_seeds(
    name: str, outcomes: Sequence[float], *, n: int, confidence: float, is_difference: bool = False
) -> Measure:
    """Return the mean of `outcomes` with Student's interval over seeds.

    For a single seed the interval is `UNKNOWN`.
    """
    values = np.asarray(outcomes, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return Measure(name, mean, *UNKNOWN, n, len(values), is_difference)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Measure(name, mean, mean - half, mean + half, n, len(values), is_difference)


def difference(name: str, ours: pd.DataFrame, base: pd.DataFrame, *, confidence: float) -> Measure:
    """Return the mean accuracy of `ours` minus `base`, with rows paired by seed.

    Raises ValueError unless each seed has one row on both sides.
    """
    pairs = ours.merge(base, on="seed", suffixes=("", "_base"))
    if pairs.empty or pairs.seed.duplicated().any():
        raise ValueError(f"expected one row a seed on both sides of {name}, got {len(ours)} and {len(base)}")
    gaps = (pairs.accuracy - pairs.accuracy_base).tolist()
    return mean_over_seeds(name, gaps, n=int(pairs.n.min()), confidence=confidence, is_difference=True)
