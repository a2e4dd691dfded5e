"""Draw the curves of the report from the result tables: Figures 1, 4, 6 and 7, and robust accuracy."""

import pandas as pd
from markupsafe import Markup

from robacc.datasets import facts
from robacc.paper import published
from robacc.report.charts import Series, chart

NAMES = {"l2": "\N{SCRIPT SMALL L}2", "linf": "\N{SCRIPT SMALL L}∞"}


def eps_text(eps: float, dataset: str) -> str:
    """Return an eps as the page shows it: a multiple of 1/255 where the data set's legends have these."""
    steps = round(255 * eps)
    in_255 = facts.of(dataset).eps_in_255 and steps and abs(255 * eps - steps) <= 0.02
    return f"{steps}/255" if in_255 else f"{eps:g}"


def ball(norm: str, eps: float, dataset: str) -> str:
    """Return the name of a training ball."""
    return "standard" if eps == 0 else f"{NAMES.get(norm, norm)} {eps_text(eps, dataset)}"


def _curve(name: str, rows: pd.DataFrame, x: str, **of: tuple[str, str]) -> Series:
    curve = rows.groupby(x).agg(**of)
    band = (curve.low.tolist(), curve.high.tolist()) if "low" in curve else ([], [])
    return Series(name, curve.index.tolist(), curve.y.tolist(), *band)


WIDEST = {"y": ("accuracy", "mean"), "low": ("low", "min"), "high": ("high", "max")}
MEANS = {"y": ("accuracy", "mean"), "low": ("low", "mean"), "high": ("high", "mean")}


def _count(n: float) -> str:
    return f"{n / 1000:g}k" if n >= 1000 else f"{n:g}"


def by_size(sizes: pd.DataFrame, norm: str, dataset: str) -> Markup:
    """Return Figure 1 or 6: standard accuracy against training-set size, once more at the largest sizes."""
    table = sizes[sizes.norm_train.isin(["standard", norm])]
    drawn = []
    for title, rows in (("all sizes", table), ("the largest sizes", table[table.n_train >= table.n_train.max() / 25])):
        series = [
            _curve(ball(norm, eps, dataset), rows[rows.eps_train == eps], "n_train", **WIDEST)
            for eps in sorted(rows.eps_train.unique())
        ]
        drawn.append(chart(f"Standard accuracy, {title}", series, x_label="training images", x_text=_count, log=True))
    return Markup("").join(drawn)


def by_training_eps(accuracy: pd.DataFrame, others: pd.DataFrame, dataset: str) -> Markup:
    """Return Figure 7: standard accuracy on the full set against training eps, beside published accuracies."""
    rows = accuracy[(accuracy.norm_test == "none") & (accuracy.images == "all") & (accuracy.natural_fraction == 0)]
    comparable = published.of_paper(others, dataset)
    drawn = []
    for norm, name in NAMES.items():
        own = rows[rows.norm_train.isin(["standard", norm])]
        if own.eps_train.nunique() < 2:
            continue
        series = [_curve("mean over the seeds", own, "eps_train", **MEANS)]
        series.append(Series("one seed", own.eps_train.tolist(), own.accuracy.tolist(), line=False))
        there = comparable[(comparable.training == "standard") | (comparable.norm == norm)]
        there = there[there.eps <= own.eps_train.max()]
        if len(there):
            series.append(Series("published", there.eps.tolist(), (there.std_acc / 100).tolist(), line=False))
        drawn.append(
            chart(
                f"Standard accuracy, training in {name}",
                series,
                x_label="training eps",
                x_text=lambda eps: eps_text(eps, dataset),
            )
        )
    return Markup("").join(drawn)


def by_judge(numbers: pd.DataFrame, models: pd.DataFrame, dataset: str) -> Markup:
    """Return the judges' probability of the new class along the way to a large-eps example."""
    strongest = models.loc[models.groupby("norm", sort=False).eps.idxmax()]
    drawn = []
    for judge in ("robust", "standard"):
        paths = numbers[(numbers.quantity == f"path_{judge}") & (numbers.norm == "l2")]
        of = {"y": ("mean", "mean"), "low": ("mean", "min"), "high": ("mean", "max")}
        series = [
            _curve(ball(norm, eps, dataset), paths[paths.model == model], "position", **of)
            for model, norm, eps in zip(strongest.model, strongest.norm, strongest.eps, strict=True)
        ]
        title = f"Probability of the new class, {judge} judge"
        drawn.append(chart(title, series, x_label="share of the way", x_text="{:.3g}".format, box=True))
    return Markup("").join(drawn)


def by_test_eps(accuracy: pd.DataFrame, dataset: str) -> Markup:
    """Return robust accuracy against the attack's eps, in each norm."""
    rows = accuracy[(accuracy.natural_fraction == 0) & (accuracy.images == "sample")]
    drawn = []
    for norm, name in NAMES.items():
        attacked = rows[rows.norm_test.isin(["none", norm])]
        series = [
            _curve(ball(of.norm_train.iloc[0], of.eps_train.iloc[0], dataset), of, "eps_test", **WIDEST)
            for _, of in attacked.groupby("model", sort=False)
        ]
        if len(attacked.eps_test.unique()) > 1:
            title, text = f"Accuracy under PGD in {name}", lambda eps: eps_text(eps, dataset)
            drawn.append(chart(title, series, x_label="eps of the attack", x_text=text, box=True))
    return Markup("").join(drawn)
