"""Build tidy tables of results.

Each row is one observation. Every accuracy has its count and its interval.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from robacc.paper.intervals import mcnemar, paired_difference, wilson

MODEL = ["model", "norm_train", "eps_train"]


def with_intervals(counts: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Add accuracy, low and high (Wilson) to a table with columns n_correct and n."""
    limits = [wilson(correct, n, confidence=confidence) for correct, n in zip(counts.n_correct, counts.n, strict=True)]
    low, high = zip(*limits, strict=True)
    return counts.assign(accuracy=counts.n_correct / counts.n, low=low, high=high)


def accuracy(counts: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Return one row for each model, seed, share of natural examples, attack and set of images.

    The rows with the attack "none" are standard accuracy. The column `images` is "all" for all test images. It is
    "sample" for those that are attacked. So the gap between standard and robust accuracy is one of two "sample" rows.
    """
    table = counts.rename(columns={"norm": "norm_test", "eps": "eps_test"}).drop_duplicates()
    columns = [*MODEL, "natural_fraction", "seed", "norm_test", "eps_test", "images", "n", "n_correct"]
    return with_intervals(table[columns], confidence=confidence).reset_index(drop=True)


def standard(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `accuracy` with standard accuracy on all images, of models with a natural share of 0."""
    return table[(table.norm_test == "none") & (table.images == "all") & (table.natural_fraction == 0)]


def sizes(
    sweep: pd.DataFrame, full: pd.DataFrame, curves: pd.DataFrame, *, n_train: int, confidence: float
) -> pd.DataFrame:
    """Return standard accuracy at every training-set size, with one row for each model and seed.

    The rows of the largest size come from `full`, a result of `accuracy`, and from the learning `curves`.
    """
    last = curves[curves.natural_fraction == 0].groupby(["model", "seed"])[["step", "epoch"]].max()
    last = last.rename(columns={"step": "steps", "epoch": "epochs"}).reset_index()
    largest = standard(full).merge(last, on=["model", "seed"]).assign(n_train=n_train)
    columns = [*MODEL, "n_train", "seed", "steps", "epochs", "n", "n_correct"]
    table = pd.concat([sweep[columns], largest[columns]]).sort_values([*MODEL, "n_train", "seed"])
    return with_intervals(table, confidence=confidence).reset_index(drop=True)


def metrics(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return for each trained ball the means over seeds: std_acc, and rob_acc at the training eps."""
    plain = table[table.natural_fraction == 0]
    result: dict[str, dict[str, float]] = {}
    for model, rows in plain.groupby("model", sort=False):
        own = rows[(rows.norm_test == rows.norm_train) & (rows.eps_test == rows.eps_train)]
        result[str(model)] = {"std_acc": round(standard(rows).accuracy.mean(), 6)}
        if len(own):
            result[str(model)]["rob_acc"] = round(own.accuracy.mean(), 6)
    return result


def radius(fooling_eps: np.ndarray, grid: Sequence[float]) -> dict[str, float]:
    """Return the mean robust radius as columns of the numbers for the pictures: mean, standard_error and n.

    `fooling_eps` [n] is the smallest eps of the rising `grid` that fools the model: 0 where the image itself is
    misclassified, infinity where none does. The radius of an example is half-way between that eps and the next smaller
    one. Where none fools, it is the largest of the grid. So the mean is a lower bound if that is frequent.
    """
    above = np.array([0.0, *grid], dtype=fooling_eps.dtype)  # so that equal eps are found, as they are float32
    below = np.array([0.0, 0.0, *grid[:-1]])
    radii = np.append((above + below) / 2, grid[-1])[np.searchsorted(above, fooling_eps)]
    error = float(radii.std(ddof=1) / np.sqrt(len(radii))) if len(radii) > 1 else 1.0
    return {"mean": float(radii.mean()), "standard_error": error, "n": len(radii)}


def _on(images: pd.Index, right: pd.Series) -> np.ndarray:
    missing = images.difference(right.index)
    if len(missing):
        raise ValueError(
            f"expected outcomes of the same images, got none of {len(missing)} of {len(images)}, such as image "
            f"{missing[0]}; attack all models on the same sample"
        )
    return right.loc[images].to_numpy()


def paired(pairs: Iterable[tuple[dict, pd.Series, pd.Series]], *, confidence: float) -> pd.DataFrame:
    """Return one row for each pair of models on the same examples.

    A pair is (labels of the row, ours, base). `ours` and `base` are bool, whether each model is right, with the index
    of the image among the test images as their index. The comparison is on the images of `ours`, in whatever order
    `base` has them. Raises ValueError if `base` lacks one of them.

    The columns are the labels, n, only_ours, only_base, difference, low, high and p_value. only_ours counts the
    examples on which only the first model is right. difference is that of the accuracies, with its interval. p_value is
    McNemar's.
    """
    rows = []
    for labels, of_ours, of_base in pairs:
        ours, base = of_ours.to_numpy(), _on(of_ours.index, of_base)
        only_ours, only_base = int((ours & ~base).sum()), int((base & ~ours).sum())
        low, high = paired_difference(only_ours, only_base, len(ours), confidence=confidence)
        counts = {"n": len(ours), "only_ours": only_ours, "only_base": only_base}
        gap = {"difference": (only_ours - only_base) / len(ours), "low": low, "high": high}
        rows.append({**labels, **counts, **gap, "p_value": mcnemar(only_ours, only_base)})
    return pd.DataFrame(rows)


def second_opinion(first: pd.DataFrame, pgd: pd.Series, *, confidence: float) -> pd.DataFrame:
    """Return the robust accuracy of one model on the same examples by PGD, by AutoAttack and by both.

    Each of the three is a row. In the row "worst", an example is robust only if no attack fools it.

    `first` is AutoAttack's result, with one row for each example:

    | column | meaning |
    |---|---|
    | `image` | the index of the example among the test images |
    | `fooled_by` | the first attack that fooled the model, or "none", or "misclassified" for the image itself |
    | `attacks` | the names of the attacks that were run |

    `pgd` bool says whether the model is robust to PGD, with the index of the image as its index. Raises ValueError if
    it lacks an image of `first`.

    The result has a column `attacks`, and a column first_<name> for each of them. It counts the images that this attack
    was the first to fool.
    """
    withstood, unfooled = _on(pd.Index(first.image), pgd), (first.fooled_by == "none").to_numpy()
    rows = {"pgd": withstood, "autoattack": unfooled, "worst": withstood & unfooled}
    counts = [{"attack": name, "n": len(right), "n_correct": int(right.sum())} for name, right in rows.items()]
    met = str(first.attacks.iloc[0])
    by = {f"first_{name}": int((first.fooled_by == name).sum()) for name in met.split()}
    return with_intervals(pd.DataFrame(counts), confidence=confidence).assign(attacks=met, **by)


def worst_case(fooling_eps: pd.Series, first: pd.DataFrame) -> pd.Series:
    """Return `fooling_eps`, lowered where AutoAttack fooled the model at a smaller eps.

    `fooling_eps` is the smallest eps at which our attack fools a model, with the index of the image as its index.
    `first` has the rows of `second_opinion` for that model and norm, with the column `eps`.
    """
    lowered = fooling_eps.copy()
    fooled = first[first.fooled_by != "none"]
    for eps in fooled.eps.unique().tolist():  # Python's floats, which take the type of the array
        images = lowered.index.intersection(pd.Index(fooled.image[fooled.eps == eps]))
        lowered[images] = np.minimum(lowered[images].to_numpy(), eps)
    return lowered
