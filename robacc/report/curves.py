"""Draw the curves of the report from the result tables: Figures 1, 4, 6 and 7, and robust accuracy."""

from collections.abc import Iterator

import pandas as pd
from markupsafe import Markup

from robacc.paper import published
from robacc.report.charts import CROSS, DIAMOND, Series, chart
from robacc.report.legends import eps_text, looks

NAMES = {"l2": "\N{SCRIPT SMALL L}2", "linf": "\N{SCRIPT SMALL L}∞"}


def ball(norm: str, eps: float, dataset: str) -> str:
    """Return the name of a training ball."""
    return "standard" if eps == 0 else f"{NAMES.get(norm, norm)} {eps_text(eps, dataset)}"


def _curve(name: str, look: int, rows: pd.DataFrame, x: str, **of: tuple[str, str]) -> Series:
    curve = rows.groupby(x).agg(**of)
    band = (curve.low.tolist(), curve.high.tolist()) if "low" in curve else ([], [])
    return Series(name, curve.index.tolist(), curve.y.tolist(), *band, look=look)


def _by_ball(
    rows: pd.DataFrame, look: dict[tuple[str, float], int], dataset: str
) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield name, look and rows of each training that `rows` has."""
    for (norm, eps), index in look.items():
        own = rows[(rows.norm_train == norm) & (rows.eps_train == eps)]
        if len(own):
            yield ball(norm, eps, dataset), index, own


WIDEST = {"y": ("accuracy", "mean"), "low": ("low", "min"), "high": ("high", "max")}
MEANS = {"y": ("accuracy", "mean"), "low": ("low", "mean"), "high": ("high", "mean")}


def _count(n: float) -> str:
    return f"{n / 1000:g}k" if n >= 1000 else f"{n:g}"


def by_size(sizes: pd.DataFrame, norm: str, dataset: str) -> Markup:
    """Return Figure 1 or 6: standard accuracy at all sizes, and once more at the largest if these are not all."""
    table = sizes[sizes.norm_train.isin(["standard", norm])]
    look = looks(sizes.norm_train, sizes.eps_train)
    drawn = []
    largest = table[table.n_train >= table.n_train.max() / 25]
    for title, rows in [("all sizes", table), ("the largest sizes", largest)][: 1 + (len(largest) < len(table))]:
        series = [_curve(name, index, own, "n_train", **WIDEST) for name, index, own in _by_ball(rows, look, dataset)]
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
        series = [_curve("mean over the seeds", 0, own, "eps_train", **MEANS)]
        series.append(Series("one seed", own.eps_train.tolist(), own.accuracy.tolist(), mark=CROSS))
        there = comparable[(comparable.training == "standard") | (comparable.norm == norm)]
        there = there[there.eps <= own.eps_train.max()]
        if len(there):
            series.append(Series("published", there.eps.tolist(), (there.std_acc / 100).tolist(), mark=DIAMOND))
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
    look = looks(models.norm, models.eps)
    strongest = models.loc[models.groupby("norm", sort=False).eps.idxmax()]
    drawn = []
    for judge in ("robust", "standard"):
        paths = numbers[(numbers.quantity == f"path_{judge}") & (numbers.norm == "l2")]
        of = {"y": ("mean", "mean"), "low": ("mean", "min"), "high": ("mean", "max")}
        series = [
            _curve(ball(norm, eps, dataset), look[norm, eps], paths[paths.model == model], "position", **of)
            for model, norm, eps in zip(strongest.model, strongest.norm, strongest.eps, strict=True)
        ]
        title = f"Probability of the new class, {judge} judge"
        drawn.append(chart(title, series, x_label="share of the way", x_text="{:.3g}".format, box=True))
    return Markup("").join(drawn)


def by_test_eps(accuracy: pd.DataFrame, dataset: str) -> Markup:
    """Return robust accuracy against the attack's eps, in each norm."""
    rows = accuracy[(accuracy.natural_fraction == 0) & (accuracy.images == "sample")]
    look = looks(rows.norm_train, rows.eps_train)
    drawn = []
    for norm, name in NAMES.items():
        attacked = rows[rows.norm_test.isin(["none", norm])]
        series = [
            _curve(name, index, own, "eps_test", **WIDEST)
            for name, index, own in _by_ball(attacked, look, dataset)
            if own.eps_test.nunique() > 1  # attacked in this norm
        ]
        if len(attacked.eps_test.unique()) > 1:
            title, text = f"Accuracy under PGD in {name}", lambda eps: eps_text(eps, dataset)
            drawn.append(chart(title, series, x_label="eps of the attack", x_text=text, box=True))
    return Markup("").join(drawn)
