"""Compare trained nets over seeds: the differences of accuracy that claims are read from, and their intervals.

A contrast is a matrix [seeds, images]. Its rows are the seeds that all compared models have, so models are paired by
seed: they share the training subset, the initial weights and the test images. Its mean is a difference of accuracies.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from robacc.paper.intervals import crossed, student

Right = Mapping[int, np.ndarray]  # for each seed, on which test images its model is right, bool [images]
Nets = Mapping[tuple[str, float], Right]  # by norm and eps of training
STANDARD = ("standard", 0.0)


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


def of_sizes(by_size: Mapping[int, Nets]) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield (labels, contrast) of each robust net minus the standard net, at each training-set size."""
    for n_train, nets in by_size.items():
        for (norm, eps), right in nets.items():
            if (norm, eps) != STANDARD:
                labels = {"contrast": "robust", "kind": "std_acc", "n_train": n_train, "norm": norm}
                yield {**labels, "eps_base": 0.0, "eps": eps}, difference(right, nets[STANDARD])


def of_eps(nets: Nets, n_train: int) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield (labels, contrast) of each step of the eps grids, and of the slope over each grid."""
    for norm in dict.fromkeys(norm for norm, _ in nets if norm != STANDARD[0]):
        by_eps = grid(nets, norm)
        labels = {"kind": "std_acc", "n_train": n_train, "norm": norm}
        for low, high in pairwise(by_eps):
            step = {"contrast": "step", **labels, "eps_base": low, "eps": high}
            yield step, difference(by_eps[high], by_eps[low])
        yield {"contrast": "slope", **labels, "eps_base": 0.0, "eps": max(by_eps)}, slope(by_eps)


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
