"""Decide the paper's claims about the accuracy of trained nets (C1 to C4) from result tables.

The rule of each verdict was written before its values were known. A claim's remark names any exception.

A claim is read in each norm by itself. C2 to C4 are read at the paper's eps (Table 2) and at the largest eps, which
params.yaml names. C1 is read at the paper's eps, or the nearest one in the grid of the data set.

Differences between models are paired by seed, see `contrasts`. The interval that decides is Student's over the seeds.
Its estimand is the mean difference of the training procedures on this test set, over the randomness of training. The
paper speaks of training on these data. The interval with test images random as well stands beside it.

Standard accuracy is on all test images, and robust accuracy on the sample of them.
"""

from typing import TypedDict

import numpy as np
import pandas as pd

from robacc.datasets import facts
from robacc.paper.ledger import (
    ACCURACIES,
    EQUAL,
    OPPOSITE,
    REPRODUCED,
    UNDECIDED,
    Claim,
    Measure,
    effect,
    of_measure,
    readings,
)
from robacc.paper.published import Gains

NORMS = ("l2", "linf")  # the paper's; a further norm decides no claim


class Place(TypedDict):
    """Where an effect is read."""

    norm: str
    eps: float
    place: str


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


def _measure(row: pd.Series, name: str) -> Measure:
    narrow, both = (row.low_narrow, row.high_narrow), (row.low_both, row.high_both)
    return Measure(name, row.value, row.low, row.high, int(row.n), int(row.seeds), True, narrow, both, row.unlearned)


def _of(contrasts: pd.DataFrame, kind: str) -> pd.DataFrame:
    rows = contrasts[(contrasts.contrast == kind) & contrasts.norm.isin(NORMS)]
    return rows.sort_values(["norm", "eps", "n_train"], kind="stable")


def _at_balls(rows: pd.DataFrame, balls: list[tuple[str, float]]) -> pd.DataFrame:
    wanted = [ball in balls for ball in zip(rows.norm, rows.eps, strict=True)]
    return rows[wanted]


def small_sets(contrasts: pd.DataFrame, *, dataset: str, margin: float) -> Claim:
    """Return claim C1 from the contrasts with standard training."""
    rows = _of(contrasts, "robust").rename(columns={"norm": "norm_train", "eps": "eps_train"})
    sizes = np.sort(rows.n_train.unique())
    effects, measures = [], []
    for norm in _norms(rows):
        eps = paper_eps(rows, norm, dataset)
        for _, row in _trained(rows, norm, eps)[lambda own: own.n_train.isin(sizes[:-1][:2])].iterrows():
            measure = _measure(
                row, f"standard accuracy, {norm} eps {eps:g} minus standard training, {row.n_train} images"
            )
            measures.append(measure)
            at: Place = {"norm": norm, "eps": eps, "place": f"on {row.n_train} images"}
            effects.append(effect(measure, **at, direction=1, margin=margin))
    return Claim(
        "C1",
        "With few training samples, adversarial training raises standard accuracy.",
        "At the two smallest training-set sizes, the gain at the paper's eps is above 0.",
        "Figures 1, 6",
        readings(effects),
        measures,
        "" if dataset == "mnist" else "The paper says this most clearly of MNIST.",
        short="On few training images, robust training raises standard accuracy.",
        effects=effects,
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


def full_set(
    contrasts: pd.DataFrame,
    sizes: pd.DataFrame,
    *,
    balls: list[tuple[str, float]],
    margin: float,
    published: Gains,
) -> Claim:
    """Return claim C2 from the contrasts with standard training, and the accuracies at every training-set size."""
    rows = _of(contrasts, "robust")
    effects, measures = [], []
    for _, row in _at_balls(rows[rows.n_train == rows.n_train.max()], balls).iterrows():
        measure = _measure(
            row, f"standard accuracy, {row.norm} eps {row.eps:g} minus standard training, {row.n_train} images"
        )
        measures.append(measure)
        at: Place = {"norm": row.norm, "eps": row.eps, "place": f"at {row.eps:g}"}
        others = published.at.get((row.norm, row.eps), [])
        effects.append(effect(measure, **at, direction=-1, margin=margin, published=others))
    crossings = []
    for norm in _norms(sizes):
        for eps in np.sort(sizes[sizes.norm_train == norm].eps_train.unique()):
            size = crossing(sizes, norm, eps)
            crossings.append(f"{norm} eps {eps:g}: " + ("no crossing" if size is None else f"about {size:,.0f} images"))
    return Claim(
        "C2",
        "With the full training set, adversarial training lowers standard accuracy; the curves cross as n grows.",
        "On the full training set, the gain at the paper's eps and at the largest eps of the norm is below 0.",
        "Figures 1, 6",
        readings(effects),
        measures,
        "Crossings: " + "; ".join(crossings) + ".",
        published.lines,
        "On the full training set, robust training lowers standard accuracy.",
        effects,
    )


CHANGES = {
    REPRODUCED: "rises",
    OPPOSITE: "falls",
    EQUAL: "changes by less than the margin",
    UNDECIDED: "may rise or fall",
}


def decline_with_eps(contrasts: pd.DataFrame, *, margin: float, published: Gains) -> Claim:
    """Return claim C3 from the contrasts over the eps grid on the full training set."""
    steps, slopes, robust = (_of(contrasts, kind) for kind in ("step", "slope", "robust"))
    effects, measures, findings = [], [], []
    for _, slope in slopes.iterrows():
        norm = slope.norm
        total = robust[(robust.norm == norm) & (robust.eps == slope.eps) & (robust.n_train == slope.n_train)].iloc[0]
        trend = _measure(slope, f"standard accuracy, slope over the {norm} grid, per {slope.eps:g}")
        whole = _measure(total, f"standard accuracy, {norm} eps {slope.eps:g} minus eps 0")
        measures += [trend, whole]
        others = published.at.get((norm, slope.eps), [])
        for measure, place, of_others in ((trend, "as a trend", []), (whole, "in total", others)):
            at: Place = {"norm": norm, "eps": slope.eps, "place": place}
            effects.append(effect(measure, **at, direction=-1, margin=margin, published=of_others))
        own = steps[steps.norm == norm]
        measures += [
            _measure(row, f"standard accuracy, {norm} eps {row.eps:g} minus eps {row.eps_base:g}")
            for _, row in own.iterrows()
        ]
        first = own.iloc[0]
        change = CHANGES[of_measure(_measure(first, ""), direction=1, margin=margin)]
        findings.append(f"to {norm} eps {first.eps:g} standard accuracy {change}")
    return Claim(
        "C3",
        "Standard accuracy declines steadily as the training eps grows, for l2 and linf.",
        "As a trend: the slope of the least-squares line over the eps grid, standard training at 0, is below 0. In total: the largest "
        "eps of the grid is below standard training. A rise at small eps decides neither, and is a finding.",
        "Figure 7",
        readings(effects),
        measures,
        f"Finding at small eps, from standard training on: {'; '.join(findings)}." if findings else "",
        published.lines,
        "Standard accuracy declines as the training eps grows.",
        effects,
    )


def half_and_half(
    contrasts: pd.DataFrame, *, balls: list[tuple[str, float]], margin: float, published: list[str]
) -> Claim:
    """Return claim C4 from the contrasts of half natural with all adversarial batches."""
    effects, measures = [], []
    for _, row in _at_balls(_of(contrasts, "half"), balls).iterrows():
        measure = _measure(
            row, f"{ACCURACIES[row.kind]}, half natural minus all adversarial, {row.norm} eps {row.eps:g}"
        )
        measures.append(measure)
        direction = 1 if row.kind == "std_acc" else -1
        at: Place = {"norm": row.norm, "eps": row.eps, "place": f"in {ACCURACIES[row.kind]} at eps {row.eps:g}"}
        effects.append(effect(measure, **at, direction=direction, margin=margin))
    return Claim(
        "C4",
        "Training half on natural, half on adversarial examples slightly raises standard accuracy and costs a similar "
        "amount of robust accuracy.",
        "At the paper's eps and at the largest eps of the norm: standard accuracy (on all test images) rises, and robust accuracy at that eps (on the "
        "sample of them) falls.",
        "Table 4",
        readings(effects),
        measures,
        published=published,
        short="Half natural batches gain standard and lose robust accuracy.",
        effects=effects,
    )
