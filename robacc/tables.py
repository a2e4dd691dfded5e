"""Tidy tables of results: one observation a row, every accuracy with its count and interval."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from robacc.intervals import mcnemar, paired_difference, wilson

MODEL = ["model", "norm_train", "eps_train"]


def with_intervals(counts: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Add accuracy, low and high (Wilson) to a table with columns n_correct and n."""
    limits = [wilson(correct, n, confidence=confidence) for correct, n in zip(counts.n_correct, counts.n, strict=True)]
    low, high = zip(*limits, strict=True)
    return counts.assign(accuracy=counts.n_correct / counts.n, low=low, high=high)


def accuracy(counts: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Return one row a model, seed, share of natural examples and attack; no attack is standard accuracy."""
    table = counts.rename(columns={"norm": "norm_test", "eps": "eps_test"})
    table = table.assign(norm_test=table.norm_test.replace("", "none")).drop_duplicates()
    columns = [*MODEL, "natural_fraction", "seed", "norm_test", "eps_test", "n", "n_correct"]
    return with_intervals(table[columns], confidence=confidence).reset_index(drop=True)


def standard(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `accuracy` for standard accuracy of plain standard or adversarial training."""
    return table[(table.norm_test == "none") & (table.natural_fraction == 0)]


def sizes(
    sweep: pd.DataFrame, full: pd.DataFrame, curves: pd.DataFrame, *, n_train: int, confidence: float
) -> pd.DataFrame:
    """Return standard accuracy at every training-set size, a row a model and seed.

    `full` (as `accuracy` gives it) and the learning `curves` give the row of the largest size.
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


def paired(pairs: Iterable[tuple[dict, np.ndarray, np.ndarray]], *, confidence: float) -> pd.DataFrame:
    """Return a row for each pair of models compared on the same examples: (labels of the row, ours, base).

    `ours` and `base` are bool [n], whether each model is right. Columns: the labels, n, how often only
    one of them is right, the difference of accuracies with its interval, and McNemar's p-value.
    """
    rows = []
    for labels, ours, base in pairs:
        only_ours, only_base = int((ours & ~base).sum()), int((base & ~ours).sum())
        low, high = paired_difference(only_ours, only_base, len(ours), confidence=confidence)
        counts = {"n": len(ours), "only_ours": only_ours, "only_base": only_base}
        gap = {"difference": (only_ours - only_base) / len(ours), "low": low, "high": high}
        rows.append({**labels, **counts, **gap, "p_value": mcnemar(only_ours, only_base)})
    return pd.DataFrame(rows)


def second_opinion(first: pd.DataFrame, pgd: np.ndarray, *, confidence: float) -> pd.DataFrame:
    """Return robust accuracy of one model on the same examples by PGD, AutoAttack and both, a row each.

    `first` has a row an example: its place `image` among the test images, `fooled_by`, the attack of AutoAttack
    that fooled it first ("none", or "misclassified" without any), and the names of the `attacks` it met. `pgd` bool:
    whether the model withstands PGD on each test image. "worst": an example counts as fooled if any attack fools it.
    Columns `attacks`, and first_<name>: how many images that attack was the first to fool.
    """
    withstood, unfooled = pgd[first.image.to_numpy()], (first.fooled_by == "none").to_numpy()
    rows = {"pgd": withstood, "autoattack": unfooled, "worst": withstood & unfooled}
    counts = [{"attack": name, "n": len(right), "n_correct": int(right.sum())} for name, right in rows.items()]
    met = str(first.attacks.iloc[0])
    by = {f"first_{name}": int((first.fooled_by == name).sum()) for name in met.split()}
    return with_intervals(pd.DataFrame(counts), confidence=confidence).assign(attacks=met, **by)
