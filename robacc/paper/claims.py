"""Decide the paper's claims about the accuracy of trained nets (C1 to C4) from result tables.

The rule of each verdict was written before its values were known. A claim's remark names any exception.

A claim about "adversarial training" is decided at one training eps for each norm. This eps is the paper's (Table 2), or
the nearest one in the grid of the data set. Picking the best of several eps afterwards would make every interval too
short.

Differences between models are paired by seed: both models have the same training subset and the same test images. The
intervals are Student's over the seeds.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from robacc.datasets import facts
from robacc.paper.ledger import Claim, Measure, difference, verdict

NORMS = ("l2", "linf")  # the paper's: "in both norms" of a rule means these, and a further norm decides no claim


def paper_eps(table: pd.DataFrame, norm: str, dataset: str) -> float:
    """Return the training eps of `norm` in `table` that is nearest to the paper's for `dataset`."""
    grid = np.sort(table[table.norm_train == norm].eps_train.unique())
    return float(grid[np.abs(grid - facts.of(dataset).paper_eps[norm]).argmin()])


def _trained(table: pd.DataFrame, norm: str, eps: float) -> pd.DataFrame:
    if eps == 0:
        return table[table.norm_train == "standard"]
    return table[(table.norm_train == norm) & (table.eps_train == eps)]


def _norms(table: pd.DataFrame) -> list[str]:
    return [norm for norm in NORMS if (table.norm_train == norm).any()]


def _gains(sizes: pd.DataFrame, n_train: int, dataset: str, confidence: float) -> list[Measure]:
    """Return, for each norm, standard accuracy at the paper's eps minus that of standard training."""
    rows = sizes[sizes.n_train == n_train]
    measures = []
    for norm in _norms(rows):
        eps = paper_eps(rows, norm, dataset)
        name = f"std_acc, {norm} eps {eps:g} minus standard, {n_train} images"
        measures.append(difference(name, _trained(rows, norm, eps), _trained(rows, norm, 0.0), confidence=confidence))
    return measures


def small_sets(sizes: pd.DataFrame, *, dataset: str, confidence: float) -> Claim:
    """Return claim C1 from the table of standard accuracy against training-set size."""
    smallest = np.sort(sizes.n_train.unique())[:2]
    each = 1 - (1 - confidence) / len(smallest)
    by_size = [_gains(sizes, n_train, dataset, each) for n_train in smallest]
    holds = all(any(gain.low > 0 for gain in of_norm) for of_norm in zip(*by_size, strict=True))
    gains = [gain for of_size in by_size for gain in of_size]
    return Claim(
        "C1",
        "With few training samples, adversarial training raises standard accuracy.",
        "In both norms the gain at the paper's eps is above 0 beyond its interval at one of the two smallest training-set "
        "sizes; the intervals are widened for the choice of two (Bonferroni).",
        "Figures 1, 6",
        verdict(holds, gains),
        gains,
        "The rule was first written for the smallest size alone, and was widened to two after a first look at three seeds."
        if dataset == "mnist"
        else "The paper says this most clearly of MNIST, on which the rule was written.",
    )


def crossing(sizes: pd.DataFrame, norm: str, eps: float) -> float | None:
    """Return the training-set size at which the curve of `eps` falls below that of standard training.

    The mean difference is interpolated linearly in log size, at its last change of sign from positive to negative. The
    result is None if the difference is never above zero, or is above zero at the largest size.
    """
    ours = _trained(sizes, norm, eps).groupby("n_train").accuracy.mean()
    gap = (ours - _trained(sizes, norm, 0.0).groupby("n_train").accuracy.mean()).sort_index()
    positive = np.flatnonzero(gap.to_numpy() > 0)
    if not len(positive) or positive[-1] == len(gap) - 1:
        return None
    left, right = gap.index[positive[-1]], gap.index[positive[-1] + 1]
    share = gap[left] / (gap[left] - gap[right])
    return float(np.exp(np.log(left) + share * (np.log(right) - np.log(left))))


def full_set(sizes: pd.DataFrame, *, dataset: str, confidence: float) -> Claim:
    """Return claim C2 from the table of standard accuracy against training-set size."""
    gains = _gains(sizes, sizes.n_train.max(), dataset, confidence)
    crossings = []
    for norm in _norms(sizes):
        for eps in np.sort(sizes[sizes.norm_train == norm].eps_train.unique()):
            at = crossing(sizes, norm, eps)
            crossings.append(f"{norm} eps {eps:g}: " + ("no crossing" if at is None else f"about {at:,.0f} images"))
    return Claim(
        "C2",
        "With the full training set, adversarial training lowers standard accuracy; the curves cross as n grows.",
        "At the full size the gain at the paper's eps is below 0 beyond its interval, in both norms.",
        "Figures 1, 6",
        verdict(all(gain.high < 0 for gain in gains), gains),
        gains,
        "Crossings: " + "; ".join(crossings) + ".",
    )


def decline_with_eps(accuracy: pd.DataFrame, *, confidence: float) -> Claim:
    """Return claim C3 from the table of accuracies of full-set models."""
    rows = accuracy[(accuracy.norm_test == "none") & (accuracy.natural_fraction == 0)]
    steps: list[Measure] = []
    totals: list[Measure] = []
    for norm in _norms(rows):
        grid = [0.0, *np.sort(rows[rows.norm_train == norm].eps_train.unique())]
        for low, high in [*pairwise(grid), (grid[0], grid[-1])]:
            name = f"std_acc, {norm} eps {high:g} minus eps {low:g}"
            measure = difference(name, _trained(rows, norm, high), _trained(rows, norm, low), confidence=confidence)
            (totals if (low, high) == (grid[0], grid[-1]) else steps).append(measure)
    return Claim(
        "C3",
        "Standard accuracy declines steadily as the training eps grows, for l2 and linf.",
        "In both norms no step of the eps grid raises it beyond its interval, and the whole grid lowers it beyond its.",
        "Figure 7",
        verdict(all(step.low <= 0 for step in steps) and all(total.high < 0 for total in totals), steps + totals),
        steps + totals,
    )


def half_and_half(accuracy: pd.DataFrame, *, dataset: str, confidence: float) -> Claim:
    """Return claim C4 from the table of accuracies.

    It compares batches of half natural, half adversarial examples with all-adversarial batches.
    """
    measures: list[Measure] = []
    for norm in _norms(accuracy):
        eps = paper_eps(accuracy, norm, dataset)
        rows = _trained(accuracy, norm, eps)
        for kind, part in (
            ("std_acc", rows[rows.norm_test == "none"]),
            ("rob_acc", rows[(rows.norm_test == norm) & (rows.eps_test == eps)]),
        ):
            half, full = part[part.natural_fraction == 0.5], part[part.natural_fraction == 0]
            if len(half):
                name = f"{kind}, half natural minus all adversarial, {norm} eps {eps:g}"
                measures.append(difference(name, half, full, confidence=confidence))
    raised = all(measure.low > 0 for measure in measures if measure.name.startswith("std_acc"))
    lowered = all(measure.high < 0 for measure in measures if measure.name.startswith("rob_acc"))
    return Claim(
        "C4",
        "Training half on natural, half on adversarial examples slightly raises standard accuracy and costs a similar "
        "amount of robust accuracy.",
        "At the paper's eps std_acc rises and rob_acc falls, each beyond its interval, in both norms.",
        "Table 4",
        verdict(raised and lowered, measures),
        measures,
    )
