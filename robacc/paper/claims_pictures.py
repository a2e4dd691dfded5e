"""Decide the claims about gradients and large-eps examples (C11 to C13) from the table of numbers for the pictures.

Each claim is read in each norm by itself, at the paper's eps. It has parts, all of which have to hold. The measures,
their formulas and these rules were fixed on models of the seeds 2000 and 2001 on MNIST, which decide nothing. Only then
were the models read that decide. The measures of earlier versions were seen on earlier seeds.

Why these measures decide C11:

* The energy share compares where the gradient is with a mask of the object. Sparse and dense random gradients have the
  same share on average. A cosine with a dense template punishes sparse gradients, and training in linf makes them.
* On colour images there is no such mask. There the span of principal components stands for image structure.
* Etmann et al. 2019 made the alignment for this claim. It is taken in the norm of training, see `saliency.alignment`.

Why the robust judge alone compares with standard training in C12: adversarial examples transfer between standard
models. So a standard judge's answer to a standard model's example says little about how the example looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pandas as pd

from robacc.datasets import facts
from robacc.paper.claims import NORMS, paper_eps
from robacc.paper.ledger import (
    UNDECIDED,
    Claim,
    Effect,
    Measure,
    Reading,
    effect,
    mean_over_seeds,
    together,
    unlearned,
    verdict,
)

SHARE, FALL = 0.05, 0.01  # within which a share, and the largest fall along a path, count as equal to their null value
SCHOTT = (
    "Of training in linf on MNIST, Schott et al. (ICLR 2019) report the opposite: perturbations that make little sense "
    "to humans."
)


@dataclass(frozen=True)
class Part:
    """One part of a claim in one norm: the mean of `values`, one a seed, is above `null` (`direction` 1) or below (-1).

    Within `margin` of `null` it counts as equal to it. `place` is a short `name`. `n` is the number of examples of a seed. A part with the
    direction 0 is shown and decides nothing.
    """

    norm: str
    eps: float
    place: str
    name: str
    values: Sequence[float]
    n: int
    direction: int = 1
    null: float = 0.0
    margin: float = SHARE
    is_difference: bool = False
    unlearned: str = ""

    def measure(self, confidence: float) -> Measure:
        """Return the mean with its interval over the seeds."""
        mean = mean_over_seeds(
            self.name, self.values, n=self.n, confidence=confidence, is_difference=self.is_difference
        )
        return replace(mean, unlearned=self.unlearned)

    def effect(self, confidence: float) -> Effect:
        """Return the mean as an effect."""
        return effect(
            self.measure(confidence),
            norm=self.norm,
            eps=self.eps,
            place=self.place,
            direction=self.direction,
            margin=self.margin,
            null=self.null,
        )


def word(part: Part, *, confidence: float) -> str:
    """Return the verdict on a part; a single seed leaves it undecided."""
    if len(part.values) < 2:
        return UNDECIDED
    return verdict(part.values, direction=part.direction, margin=part.margin, null=part.null, confidence=confidence)


class Decided(TypedDict):
    """What the parts of a claim decide: its verdict in each norm, with the measures and the effects behind it."""

    readings: list[Reading]
    measures: list[Measure]
    effects: list[Effect]


def decided(parts: list[Part], *, confidence: float) -> Decided:
    """Return the verdict on a claim in each norm, and the measures of its parts."""
    readings, effects = [], [part.effect(confidence) for part in parts if part.direction]
    for norm in dict.fromkeys(part.norm for part in parts if part.direction):
        deciding = [part for part in parts if part.direction and part.norm == norm]
        why = max((part.unlearned for part in deciding), key=len)
        said = together(word(part, confidence=confidence) for part in deciding)
        readings.append(Reading(norm, "", said, why))
    return {"readings": readings, "measures": [part.measure(confidence) for part in parts], "effects": effects}


def _values(
    numbers: pd.DataFrame, quantity: str, of: str, norm: str, eps: float, position: float = 0.0
) -> pd.DataFrame:
    """Return seed, mean, n and learned of models trained in the ball; `of` is the norm of the quantity itself."""
    trained = numbers.norm_train == (norm if eps else "standard")
    rows = numbers[trained & (numbers.eps_train == eps) & (numbers.quantity == quantity) & (numbers.norm == of)]
    return rows[rows.position == position].sort_values("seed")[["seed", "mean", "n", "learned"]]


def _unlearned(norm: str, eps: float, ours: pd.DataFrame, base: pd.DataFrame | None = None) -> str:
    """Return words on the models that did not learn, of `_values` of a ball, and of standard training as `base`."""
    of = {f"{norm}-{eps}": ours} | ({} if base is None else {"standard": base})
    return unlearned({name: values.seed[~values.learned] for name, values in of.items()})


def _gain(
    numbers: pd.DataFrame, quantity: str, of: str, norm: str, eps: float, place: str, name: str, unit: float = 1.0
) -> Part:
    """Return the part that the quantity is above that of standard training, paired by seed, in units of `unit`."""
    ours, base = (_values(numbers, quantity, of, norm, at) for at in (eps, 0.0))
    pairs = ours.merge(base, on="seed", suffixes=("", "_base"))
    gaps, n = (pairs["mean"] - pairs["mean_base"]) / unit, min(pairs.n.min(), pairs.n_base.min())
    why = _unlearned(norm, eps, *(each[each.seed.isin(pairs.seed)] for each in (ours, base)))
    return Part(norm, eps, place, f"{name} minus standard", gaps.tolist(), int(n), is_difference=True, unlearned=why)


def _balls(numbers: pd.DataFrame, dataset: str, quantity: str) -> list[tuple[str, float]]:
    """Return the balls at which a claim is read: of the norms in which `quantity` is known, of standard training too.

    It is the quantity of no norm, or of l2.
    """
    rows = numbers[(numbers.quantity == quantity) & numbers.norm.isin(["none", "l2"])]
    norms = [norm for norm in NORMS if {norm, "standard"} <= set(rows.norm_train)]
    return [(norm, paper_eps(rows, norm, dataset)) for norm in norms]


def gradients_align(numbers: pd.DataFrame, *, dataset: str, confidence: float) -> Claim:
    """Return claim C11."""
    grey = facts.of(dataset).channels == 1
    share, place = ("object_share", "the object") if grey else ("span_share", "the span of the principal components")
    parts = []
    for norm, eps in _balls(numbers, dataset, share):
        name = f"gradients' energy share on {place}, {norm} eps {eps:g}"
        parts.append(_gain(numbers, share, "none", norm, eps, "energy share", name))
        name = f"gradients' {norm} alignment as a share of eps, {norm} eps {eps:g}"
        parts.append(_gain(numbers, "alignment", norm, norm, eps, "alignment", name, unit=eps))
    return Claim(
        "C11",
        "Loss gradients of robust models align with salient image structure; those of standard models look like noise.",
        f"The gradient's share of energy on {place} is above the standard model's. So is its alignment with the image "
        "(Etmann et al. 2019) in the norm of training.",
        "Figures 2, 10",
        **decided(parts, confidence=confidence),
        short="Loss gradients of robust models align with the image.",
    )


def looks_like_another_class(numbers: pd.DataFrame, *, dataset: str, confidence: float) -> Claim:
    """Return claim C12."""
    parts = []
    for norm, eps in _balls(numbers, dataset, "judged_robust"):
        at = f"{norm} eps {eps:g}"
        for quantity, place, name, direction in (
            ("changed", "", "share of examples that change class", 0),
            ("judged_robust", "robust judge", "share that the robust judge gives the new class", 1),
            ("judged_standard", "standard judge", "share that the standard judge gives the new class", 1),
            ("judged_nearest", "", "share whose nearest training image has the new class", 0),
        ):
            ours = _values(numbers, quantity, "l2", norm, eps)
            values, n, why = ours["mean"].tolist(), int(ours.n.min()), _unlearned(norm, eps, ours)
            parts.append(Part(norm, eps, place, f"{name}, {at}", values, n, direction, 0.5, unlearned=why))
        name = f"share that the robust judge gives the new class, {at}"
        parts.append(_gain(numbers, "judged_robust", "l2", norm, eps, "against standard", name))
    return Claim(
        "C12",
        "Large-eps adversarial examples of robust models look like another class; those of standard models like noise.",
        "In large l2 balls, of the examples that change class: each of two judges trained on another seed gives the "
        "attacked model's new class to over half of them. The robust judge gives it to more of them than of the standard "
        "model's.",
        "Figures 3, 8, 9",
        **decided(parts, confidence=confidence),
        remark=SCHOTT if dataset == "mnist" else "",
        short="Large-eps examples of robust models look like another class.",
    )


def smooth_interpolation(numbers: pd.DataFrame, *, dataset: str, confidence: float) -> Claim:
    """Return claim C13."""
    positions = np.sort(numbers[numbers.quantity == "path_robust"].position.unique())
    parts = []
    for norm, eps in _balls(numbers, dataset, "path_robust"):
        points = [_values(numbers, "path_robust", "l2", norm, eps, position) for position in positions]
        steps = np.diff(np.array([point["mean"].to_numpy() for point in points]), axis=0)
        n, at, why = int(points[-1].n.min()), f"{norm} eps {eps:g}", _unlearned(norm, eps, points[-1])
        ends, rises, falls = points[-1]["mean"].tolist(), steps.max(0).tolist(), (-steps.min(0)).tolist()
        for place, name, values, direction, null, margin in (
            ("end", "probability of the new class at the end of the path", ends, 1, 0.5, SHARE),
            ("largest rise", "its largest rise from one point to the next", rises, -1, 0.5, SHARE),
            ("largest fall", "its largest fall, below 0 if it always rises", falls, -1, FALL, FALL),
        ):
            parts.append(Part(norm, eps, place, f"{name}, {at}", values, n, direction, null, margin, unlearned=why))
    return Claim(
        "C13",
        "The straight line from an image to its large-eps adversarial example of a robust model is smooth and plausible.",
        "In large l2 balls, of the examples that change class, the robust judge's mean probability of the new class: it "
        "ends above 0.5, never rises by 0.5 from one point to the next, and never falls by 0.01.",
        "Figure 4",
        **decided(parts, confidence=confidence),
        remark=SCHOTT if dataset == "mnist" else "",
        short="The line to such an example is smooth and plausible.",
    )
