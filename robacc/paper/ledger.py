"""Define a row of the claims ledger, the intervals of its numbers, and the four words of a verdict."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pandas as pd

from robacc.paper.intervals import student

REPRODUCED, OPPOSITE, EQUAL, UNDECIDED = WORDS = ("reproduced", "opposite", "equal", "undecided")
NOT_TESTED = "not tested"  # no model that the claim is about was trained
ACCURACIES = {"std_acc": "standard accuracy", "rob_acc": "robust accuracy"}  # kinds in result tables, in words
UNKNOWN = (-1.0, 1.0)  # the interval of a share or difference from a single seed

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """One share, or difference of shares, that decides a claim.

    | field | meaning |
    |---|---|
    | `low`, `high` | its interval, with the seeds random on this test set; it decides |
    | `n`, `seeds` | the numbers of examples and of seeds |
    | `narrow` | the interval at the level of two one-sided tests, which decides "equal" |
    | `both` | the interval with seeds and test images random, for comparison |
    | `unlearned` | words on those of its models that did not learn |
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    seeds: int
    is_difference: bool = False
    narrow: Interval | None = None
    both: Interval | None = None
    unlearned: str = ""


@dataclass(frozen=True)
class Reading:
    """The verdict on a claim in one norm, at one place of it: "at 1.5", "on 100 images".

    The norm is "" for claims that are about no norm. `unlearned` says which of the models did not learn. It changes no
    verdict.
    """

    norm: str
    place: str
    verdict: str
    unlearned: str = ""

    @property
    def reason(self) -> str:
        """What follows the verdict: ", where the linf-0.3 model of seed 101 did not learn", or nothing."""
        return f", where {self.unlearned}" if self.unlearned else ""


@dataclass(frozen=True)
class Effect:
    """One measure that decides a claim, turned so that values above 0 are as the paper says.

    | field | meaning |
    |---|---|
    | `norm`, `eps`, `place` | where it was read: "on 100 images", "robust judge" |
    | `verdict` | the word on this measure alone |
    | `value` | direction times (measure minus null) |
    | `low`, `high` | its interval, None for a single seed |
    | `null`, `margin` | what the claim compares with, and how near to it counts as equal |
    | `published` | the same effect in the nets of others |
    """

    norm: str
    eps: float
    place: str
    verdict: str
    value: float
    low: float | None
    high: float | None
    null: float
    margin: float
    seeds: int
    published: list[float]
    unlearned: str = ""


@dataclass(frozen=True)
class Claim:
    """A row of the ledger.

    `statement` is the paper's claim in our words, and `short` the same in at most ten. `rule` says how it is read.
    `published` are numbers of others.
    """

    id: str
    statement: str
    rule: str
    figure: str
    readings: list[Reading]
    measures: list[Measure]
    remark: str = ""
    published: list[str] = field(default_factory=list)
    short: str = ""
    effects: list[Effect] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """All readings in one line: "linf: reproduced; l2: equal at 1.5, reproduced at 2.5"."""
        parts = []
        for norm, of_norm in groupby(self.readings, lambda reading: reading.norm):
            readings = list(of_norm)
            said: dict[tuple[str, str], list[str]] = {}
            for each in readings:
                places = said.setdefault((each.verdict, each.reason), [])
                places += [each.place] if each.place and len(readings) > 1 else []
            text = ", ".join(
                f"{word}{' ' if places else ''}{' and '.join(places)}{reason}"
                for (word, reason), places in said.items()
            )
            parts.append(f"{norm}: {text}" if norm else text)
        return "; ".join(parts) or NOT_TESTED

    @property
    def words(self) -> dict[str, str] | str:
        """The verdicts in each norm, without their places: {"l2": "equal, reproduced", "linf": "reproduced"}.

        A text for claims that are about no norm.
        """
        by_norm: dict[str, dict[str, None]] = {}
        for reading in self.readings:
            by_norm.setdefault(reading.norm, {})[reading.verdict + reading.reason] = None
        words = {norm: ", ".join(verdicts) for norm, verdicts in by_norm.items()}
        return words.get("", NOT_TESTED) if words.keys() <= {""} else words


def word(wide: Interval, narrow: Interval, *, direction: int, margin: float, null: float = 0.0) -> str:
    """Return the verdict on the claim that a quantity is above `null` (`direction` 1) or below it (-1).

    `wide` is the quantity's 95 % interval and `narrow` its 90 % interval. The rules are tried in this order:

    | word | rule |
    |---|---|
    | reproduced | `wide` is on the claimed side of `null`; true by chance in 2.5 % of cases at `null` |
    | opposite | `wide` is on the other side |
    | equal | `narrow` is within `margin` of `null`: two one-sided tests (Schuirmann 1987), each at 5 % |
    | undecided | none of these |

    Raises ValueError unless `direction` is 1 or -1, `margin` is above 0 and `narrow` is inside `wide`.
    """
    if direction not in (1, -1) or not margin > 0:
        raise ValueError(f"expected direction 1 or -1 and a margin above 0, got {direction} and {margin}")
    if not wide[0] <= narrow[0] <= narrow[1] <= wide[1]:
        raise ValueError(f"expected the narrow interval inside the wide one, got {narrow} and {wide}")
    low, high = sorted(direction * (limit - null) for limit in wide)
    if low > 0:
        return REPRODUCED
    if high < 0:
        return OPPOSITE
    return EQUAL if max(abs(limit - null) for limit in narrow) < margin else UNDECIDED


def verdict(
    values: Sequence[float], *, direction: int, margin: float, null: float = 0.0, confidence: float = 0.95
) -> str:
    """Return the `word` on the mean of `values`, one a seed, by Student's intervals over the seeds.

    Raises ValueError for fewer than two seeds, or if their number gives no interval.
    """
    wide, narrow = (student(values, confidence=level) for level in (confidence, 2 * confidence - 1))
    return word(wide, narrow, direction=direction, margin=margin, null=null)


def of_measure(measure: Measure, *, direction: int, margin: float, null: float = 0.0) -> str:
    """Return the `word` on a measure over seeds; a single seed leaves it undecided."""
    if measure.narrow is None:
        return UNDECIDED
    return word((measure.low, measure.high), measure.narrow, direction=direction, margin=margin, null=null)


def effect(
    measure: Measure,
    *,
    norm: str,
    eps: float,
    place: str,
    direction: int,
    margin: float,
    null: float = 0.0,
    published: Iterable[float] = (),
) -> Effect:
    """Return a measure as an effect, with the word on it; `published` are values of the same measure."""
    known = (measure.low, measure.high) != UNKNOWN
    low, high = sorted(direction * (limit - null) for limit in (measure.low, measure.high)) if known else (None, None)
    said = of_measure(measure, direction=direction, margin=margin, null=null)
    others = [direction * (value - null) for value in published]
    value = direction * (measure.value - null)
    return Effect(norm, eps, place, said, value, low, high, null, margin, measure.seeds, others, measure.unlearned)


def readings(effects: Iterable[Effect]) -> list[Reading]:
    """Return the readings of a claim that each effect decides by itself."""
    return [Reading(each.norm, each.place, each.verdict, each.unlearned) for each in effects]


def unlearned(seeds: Mapping[str, Iterable[int]]) -> str:
    """Return words on the models that did not learn, from their seeds by the name of their training.

    "the linf-0.3 models of seeds 101, 103 did not learn", or "" if there are none.
    """
    found = {name: list(of) for name, of in seeds.items()}
    said = [
        f"the {name} model{'s' * (len(of) > 1)} of seed{'s' * (len(of) > 1)} {', '.join(map(str, of))}"
        for name, of in found.items()
        if of
    ]
    return f"{' and '.join(said)} did not learn" if said else ""


def together(words: Iterable[str]) -> str:
    """Return the verdict on a claim with several parts, all of which have to hold.

    It is reproduced or equal if all parts are, and opposite if any part is.
    """
    kinds = set(words)
    if len(kinds) == 1:
        return kinds.pop()
    return OPPOSITE if OPPOSITE in kinds else UNDECIDED


def without_chance(holds: bool) -> str:
    """Return the verdict from numbers without chance: reproduced, or opposite."""
    return REPRODUCED if holds else OPPOSITE


def mean_over_seeds(
    name: str, outcomes: Sequence[float], *, n: int, confidence: float, is_difference: bool = False
) -> Measure:
    """Return the mean of `outcomes`, one a seed, with Student's intervals over seeds.

    For a single seed the interval is `UNKNOWN`.
    """
    mean = float(np.mean(outcomes))
    if len(outcomes) < 2:
        return Measure(name, mean, *UNKNOWN, n, len(outcomes), is_difference)
    wide, narrow = (student(outcomes, confidence=level) for level in (confidence, 2 * confidence - 1))
    return Measure(name, mean, *wide, n, len(outcomes), is_difference, narrow)


def difference(name: str, ours: pd.DataFrame, base: pd.DataFrame, *, confidence: float) -> Measure:
    """Return the mean accuracy of `ours` minus `base`, with rows paired by seed.

    Seeds that only one side has are left out. Raises ValueError unless each seed has one row on a side.
    """
    pairs = ours.merge(base, on="seed", suffixes=("", "_base"))
    if pairs.empty or pairs.seed.duplicated().any():
        raise ValueError(f"expected one row a seed on both sides of {name}, got {len(ours)} and {len(base)}")
    gaps = (pairs.accuracy - pairs.accuracy_base).tolist()
    return mean_over_seeds(name, gaps, n=int(pairs.n.min()), confidence=confidence, is_difference=True)
