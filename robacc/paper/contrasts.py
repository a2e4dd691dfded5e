"""Compare trained nets over seeds: the differences of accuracy that claims are read from, and their intervals.

A contrast is a matrix [seeds, images]. Its rows are the seeds that all compared models have, so models are paired by
seed: they share the training subset, the initial weights and the test images. Its mean is a difference of accuracies.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from robacc.paper.intervals import crossed, student, wilson
from robacc.paper.ledger import unlearned

Right = Mapping[int, np.ndarray]  # for each seed, on which test images its model is right, bool [images]
Nets = Mapping[tuple[str, float], Right]  # by norm and eps of training
STANDARD = ("standard", 0.0)


def learned(right: np.ndarray, chance: float) -> bool:
    """Return whether a model that is `right` on some test images, bool [images], has learned.

    It has if its accuracy is above `chance`, that of the best constant answer, by more than the images leave open.
    """
    return wilson(int(right.sum()), len(right), confidence=0.95)[0] > chance


def not_learned(nets: Mapping[str, Right], chance: float) -> str:
    """Return words on those of `nets` that did not learn, by name, among the seeds that all of them have."""
    seeds = sorted(set.intersection(*map(set, nets.values())))
    return unlearned(
        {name: [seed for seed in seeds if not learned(right[seed], chance)] for name, right in nets.items()}
    )


def combine(parts: Iterable[tuple[float, Right]]) -> np.ndarray:
    """Return the weighted sum of `parts` as float [seeds, images], over the seeds that all of them have."""
    parts = list(parts)
    seeds = sorted(set.intersection(*(set(right) for _, right in parts)))
    return np.array([sum(weight * right[seed].astype(float) for weight, right in parts) for seed in seeds])


def difference(ours: Right, base: Right) -> np.ndarray:
    """Return the accuracy of `ours` minus that of `base`, as [seeds, images]."""
    return combine([(1.0, ours), (-1.0, base)])


def slope(by_eps: Mapping[float, Right]) -> np.ndarray:
    """Return the slope of accuracy over eps, as [seeds, images].

    It is that of the least-squares line, in accuracy over the whole grid: eps is in units of its largest value.
    """
    eps = np.array(list(by_eps)) / max(by_eps)
    weights = (eps - eps.mean()) / ((eps - eps.mean()) ** 2).sum()
    return combine(zip(weights.tolist(), by_eps.values(), strict=True))


def grid(nets: Nets, norm: str) -> dict[float, Right]:
    """Return the nets of `norm` by eps, standard training at 0 among them, in rising order."""
    own = {eps: right for (of, eps), right in nets.items() if of == norm}
    return dict(sorted(({0.0: nets[STANDARD]} | own).items()))


def of_sizes(by_size: Mapping[int, Nets], *, chance: float) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield (labels, contrast) of each robust net minus the standard net, at each training-set size."""
    for n_train, nets in by_size.items():
        for (norm, eps), right in nets.items():
            if (norm, eps) != STANDARD:
                labels = {"contrast": "robust", "kind": "std_acc", "n_train": n_train, "norm": norm}
                named = {f"{norm}-{eps}": right, "standard": nets[STANDARD]}
                labels["unlearned"] = not_learned(named, chance)
                yield {**labels, "eps_base": 0.0, "eps": eps}, difference(right, nets[STANDARD])


def of_eps(nets: Nets, n_train: int, *, chance: float) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield (labels, contrast) of each step of the eps grids, and of the slope over each grid."""
    for norm in dict.fromkeys(norm for norm, _ in nets if norm != STANDARD[0]):
        by_eps = grid(nets, norm)
        named = {f"{norm}-{eps}" if eps else "standard": right for eps, right in by_eps.items()}
        labels = {"kind": "std_acc", "n_train": n_train, "norm": norm}
        for (low, high), pair in zip(pairwise(by_eps), pairwise(named.items()), strict=True):
            step = {"contrast": "step", **labels, "unlearned": not_learned(dict(pair), chance)}
            yield {**step, "eps_base": low, "eps": high}, difference(by_eps[high], by_eps[low])
        whole = {"contrast": "slope", **labels, "unlearned": not_learned(named, chance)}
        yield {**whole, "eps_base": 0.0, "eps": max(by_eps)}, slope(by_eps)


def of_halves(pairs: Iterable[tuple[dict, Right, Right]]) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield (labels, contrast) of half natural minus all adversarial training, from (labels, half, all)."""
    for labels, half, full in pairs:
        yield {"contrast": "half", **labels}, difference(half, full)


def table(contrasts: Iterable[tuple[dict, np.ndarray]], *, confidence: float) -> pd.DataFrame:
    """Return a row for each contrast of two seeds or more, from (labels, contrast).

    | columns | meaning |
    |---|---|
    | contrast | robust: minus standard; step: minus the next smaller eps; slope: over eps; half: half natural |
    | kind, n_train, norm, eps_base, eps | which accuracy of which models |
    | unlearned | words on those of the models that did not learn, usually none |
    | seeds, n, value | numbers of seeds and test images, and the mean difference |
    | low, high | Student's interval: seeds are random, on these test images |
    | low_narrow, high_narrow | the same at the level 2 * `confidence` - 1, for two one-sided tests |
    | low_both, high_both | seeds and images are random, see `crossed` |
    """
    rows = []
    for labels, matrix in contrasts:
        if len(matrix) > 1:
            means = matrix.mean(1)
            limits = {
                "": student(means, confidence=confidence),
                "_narrow": student(means, confidence=2 * confidence - 1),
                "_both": crossed(matrix, confidence=confidence),
            }
            row = {**labels, "seeds": len(matrix), "n": matrix.shape[1], "value": float(means.mean())}
            for kind, (low, high) in limits.items():
                row |= {f"low{kind}": low, f"high{kind}": high}
            rows.append(row)
    return pd.DataFrame(rows)
