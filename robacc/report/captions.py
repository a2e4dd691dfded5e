"""Say in sentences what a figure is drawn from and what it shows, from the tables that it is drawn from."""

import pandas as pd

from robacc.balls import NORMS
from robacc.report import findings, legends


def seeds(table: pd.DataFrame) -> str:
    """Return the number of seeds of a model, from the fewest to the most."""
    counts = table.groupby(["norm_train", "eps_train"]).seed.nunique()
    return findings.seeds([{"seeds": count} for count in counts])


def by_size(sizes: pd.DataFrame) -> str:
    """Return the numbers of test images and of seeds behind each training-set size."""
    parts = [f"{seeds(rows)} at {size:,}" for size, rows in sizes.groupby("n_train")]
    return f"{sizes.n.max():,} test images; {', '.join(parts)} training images."


def by_training(numbers: pd.DataFrame, quantity: str, norm: str, dataset: str) -> str:
    """Return a quantity of pictures.csv in percent after each training, as the mean over seeds."""
    rows = numbers[(numbers.quantity == quantity) & (numbers.norm == norm)]
    look = legends.looks(rows.norm_train, rows.eps_train)
    means = rows.groupby(["norm_train", "eps_train"])["mean"].mean()
    parts = [f"{_training(*ball, dataset)}: {100 * means[ball]:.0f} %" for ball in sorted(look, key=look.__getitem__)]
    n = f"{rows.n.max():,}" if rows.n.nunique() == 1 else f"at most {rows.n.max():,}"
    return f"{', '.join(parts)} ({n} test images, {seeds(rows)})."


def robust(accuracy: pd.DataFrame, dataset: str) -> str:
    """Return what standard training and the largest training eps of each norm keep at that eps."""
    rows = accuracy[(accuracy.natural_fraction == 0) & (accuracy.images == "sample")]
    parts = []
    for norm in NORMS:
        eps = rows[rows.norm_train == norm].eps_train.max()
        attacked = rows[(rows.norm_test == norm) & (rows.eps_test == eps)]
        means = 100 * attacked.groupby(["norm_train", "eps_train"]).accuracy.mean()
        if (norm, eps) in means:
            kept = f"{means['standard', 0.0]:.1f} % of the images, training there {means[norm, eps]:.1f} %"
            parts.append(f"Attacked at {_training(norm, eps, dataset)}, standard training keeps {kept}.")
    return " ".join(parts)


def noise(table: pd.DataFrame) -> str:
    """Return the weight on noise at the fewest and the most training images, without and with the largest eps."""
    parts = []
    for n_train in (table.n_train.min(), table.n_train.max()):
        means = 100 * table[table.n_train == n_train].groupby("eps_train").noise_share.mean()
        parts.append(
            f"With {n_train:,} training images, standard training puts {means.iloc[0]:.0f} % of its weight on noise, "
            f"training at linf eps {means.index[-1]:g} {means.iloc[-1]:.0f} %"
        )
    counts = table.groupby(["n_train", "eps_train"]).seed.nunique()
    return f"{'. '.join(parts)} ({findings.seeds([{'seeds': count} for count in counts])})."


def dimension(table: pd.DataFrame) -> str:
    """Return how the accuracies of the mean change from the fewest to the most weak features, for a fixed eta."""
    rows = table[(table.fixed == "eta") & (table.eta == table[table.fixed == "eta"].eta.median())].sort_values("d")
    first, last = rows.iloc[0], rows.iloc[-1]
    return (
        f"With eta = {first.eta:g}, from d = {first.d:,} to d = {last.d:,}, standard accuracy goes from "
        f"{100 * first.std_acc:.1f} % to {100 * last.std_acc:.1f} %, robust accuracy from {100 * first.rob_acc:.1f} % "
        f"to {100 * last.rob_acc:.1f} %."
    )


def _training(norm: str, eps: float, dataset: str) -> str:
    return f"{norm} eps {legends.eps_text(eps, dataset)}" if eps else "standard"
