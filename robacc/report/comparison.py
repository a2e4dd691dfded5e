"""Compare the results of several revisions, experiments among them: parameters, accuracies, curves and verdicts.

A row of every table says in words whether it differs. What is compared is what the row shows.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from robacc.datasets import facts
from robacc.paper.intervals import student
from robacc.report import curves, page
from robacc.report.charts import Series, chart

SAME, DIFFERS, OTHER_NUMBERS, OTHER_VERDICT = "same", "differs", "other numbers", "other verdict"
MOST = 7  # revisions: the page has so many colours and marks
ACCURACY = ["model", "norm_train", "eps_train", "accuracy", "low", "high"]
COLUMNS = {
    "accuracy": [*ACCURACY, "natural_fraction", "norm_test", "eps_test", "images"],
    "sizes": [*ACCURACY, "n_train"],
}


@dataclass(frozen=True)
class Run:
    """The results of one data set: accuracy.csv, sizes.csv, and the claims of its ledger."""

    accuracy: pd.DataFrame
    sizes: pd.DataFrame
    claims: list[dict]


@dataclass(frozen=True)
class Revision:
    """The parameters and results of a commit, or of the workspace, whose `commit` is "". `texts` are its files."""

    name: str
    commit: str
    params: dict
    confidence: float
    exact: list[dict]
    runs: dict[str, Run]
    texts: dict[str, str]


def read(name: str, commit: str, params: dict, texts: dict[str, str]) -> Revision:
    """Return a revision from its parameters and the texts of files in results/, by their paths in it.

    Raises ValueError unless the results are of the balls in params.yaml, and KeyError for what another version lacks.
    """
    runs = {}
    for dataset in (of for datasets in params["run"].values() for of in datasets):
        accuracy, sizes = (
            pd.read_csv(StringIO(texts[f"{dataset}/{of}.csv"]))[columns] for of, columns in COLUMNS.items()
        )
        there, wanted = set(accuracy.model), {f"{dataset}-{ball}" for ball in params["balls"][dataset]}
        if odd := ", ".join(sorted(there ^ wanted)):
            raise ValueError(f"expected results of the balls in params.yaml, and of no other; run dvc repro for {odd}")
        runs[dataset] = Run(accuracy, sizes, json.loads(texts[f"{dataset}/ledger.json"])["claims"])
    exact = json.loads(texts["exact/ledger.json"])["claims"]
    return Revision(name, commit, params, params["report"]["confidence"], exact, runs, texts)


@dataclass(frozen=True)
class Cell:
    """What a row shows of one revision: verdicts, if it is about these, and lines of numbers."""

    verdict: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of a table: its name, a cell a revision, None where a revision has none, and whether they differ."""

    name: str
    cells: list[Cell | None]
    said: str


def row(name: str, cells: Sequence[Cell | None], revisions: Sequence[Revision]) -> Row:
    """Return a row that says how its cells differ."""
    there = [cell for cell in cells if cell is not None]
    if len(there) < len(cells):
        having = [revision.name for revision, cell in zip(revisions, cells, strict=True) if cell is not None]
        said = f"only in {' and '.join(having)}"
    elif len({cell.verdict for cell in there}) > 1:
        said = OTHER_VERDICT
    elif len(set(there)) > 1:
        said = OTHER_NUMBERS if there[0].verdict else DIFFERS
    else:
        said = SAME
    return Row(name, list(cells), said)


def _rows(found: Sequence[dict[str, Cell]], revisions: Sequence[Revision]) -> list[Row]:
    """Return a row for each key of `found`, which has the cells of each revision, in the order of their first one."""
    names = dict.fromkeys(name for cells in found for name in cells)
    return [row(name, [cells.get(name) for cells in found], revisions) for name in names]


# ---- Tables -------------------------------------------------------------------------------------------------------


def _leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, Cell]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            items = map(str, value) if isinstance(value, list) else [str(value)]
            yield f"{prefix}{key}", Cell("", (", ".join(items),))


def parameters(revisions: Sequence[Revision]) -> list[Row]:
    """Return the parameters that are not the same in all revisions."""
    rows = _rows([dict(_leaves(revision.params)) for revision in revisions], revisions)
    return [each for each in rows if each.said != SAME]


def standard_accuracy(revisions: Sequence[Revision], dataset: str) -> list[Row]:
    """Return standard accuracy on all test images, in percent, with a row for each ball.

    The interval is Student's over the seeds, at the revision's own confidence; that of a single seed is Wilson's.
    """
    return _rows([dict(_accuracies(revision, dataset)) for revision in revisions], revisions)


def _accuracies(revision: Revision, dataset: str) -> Iterator[tuple[str, Cell]]:
    if dataset not in revision.runs:
        return
    table = revision.runs[dataset].accuracy
    rows = table[(table.images == "all") & (table.natural_fraction == 0)]
    for ball, of in _by_ball(rows, dataset).items():
        low, high = of.low.iloc[0], of.high.iloc[0]
        if len(of) > 1:
            low, high = student(of.accuracy.to_numpy(), confidence=revision.confidence)
        shown = f"{100 * of.accuracy.mean():.2f} [{100 * low:.2f}, {100 * high:.2f}], {page.counted(len(of), 'seed')}"
        yield ball, Cell("", (shown,))


def ledger(revisions: Sequence[Revision], dataset: str = "") -> list[Row]:
    """Return the verdicts on claims with their numbers, with a row for each claim and norm.

    Without a data set they are the claims about the distribution and linear models.
    """
    return _rows([dict(_verdicts(_claims(revision, dataset))) for revision in revisions], revisions)


def _claims(revision: Revision, dataset: str) -> list[dict]:
    if not dataset:
        return revision.exact
    return revision.runs[dataset].claims if dataset in revision.runs else []


def _verdicts(claims: list[dict]) -> Iterator[tuple[str, Cell]]:
    for claim in page.by_number(claims):
        for part in claim["verdict"].split("; "):  # "l2: reproduced on 100 images; linf: equal", or a word alone
            norm, _, verdict = part.rpartition(": ")
            lines = [_effect(effect) for effect in claim.get("effects", []) if effect["norm"] == norm]
            if not norm and not lines:
                lines = [page.interval(measure) for measure in claim["measures"]]
            yield f"{claim['id']} {norm}".strip(), Cell(verdict, tuple(lines))


def _effect(effect: dict) -> str:
    """Return where an effect was read and its size, above 0 if it is as the paper says."""
    ends = [effect[end] for end in ("low", "high") if effect[end] is not None]
    interval = f"[{', '.join(f'{100 * end:+.2f}' for end in ends)}]" if ends else "[one seed, no interval]"
    return f"{effect['place']}: {100 * effect['value']:+.2f} {interval}".removeprefix(": ")


def counted(rows: Sequence[Row]) -> str:
    """Return in words how many rows differ, and how."""
    kinds = ["not in all" if None in each.cells else each.said for each in rows]
    different = dict.fromkeys(kind for kind in kinds if kind != SAME)
    total = page.counted(len(rows), "row")
    return f"{total}: " + (", ".join(f"{kinds.count(kind)} {kind}" for kind in different) or "all the same")


# ---- Curves -------------------------------------------------------------------------------------------------------

Tables = dict[str, pd.DataFrame]  # the rows of each chart, by its name


def _by_training_eps(run: Run, dataset: str) -> Tables:
    table = run.accuracy[(run.accuracy.natural_fraction == 0) & (run.accuracy.images == "all")]
    rows = {name: table[table.norm_train.isin(["standard", norm])] for norm, name in curves.NAMES.items()}
    return {f"training in {name}": of for name, of in rows.items() if of.eps_train.nunique() > 1}


def _by_test_eps(run: Run, dataset: str) -> Tables:
    table = run.accuracy[(run.accuracy.natural_fraction == 0) & (run.accuracy.images == "sample")]
    found: Tables = {}
    for norm, name in curves.NAMES.items():
        rows = table[table.norm_test.isin(["none", norm]) & table.norm_train.isin(["standard", norm])]
        found |= {f"{ball}, under PGD in {name}": of for ball, of in _by_ball(rows, dataset).items()}
    return found


def _by_ball(rows: pd.DataFrame, dataset: str) -> Tables:
    balls = rows.groupby(["norm_train", "eps_train"], sort=False)
    return {curves.ball(of.norm_train.iloc[0], of.eps_train.iloc[0], dataset): of for _, of in balls}


def _by_size(run: Run, dataset: str) -> Tables:
    return _by_ball(run.sizes, dataset)


@dataclass(frozen=True)
class Overlay:
    """Charts with a curve a revision, and the names of those left out, as their curves are the same in all."""

    title: str
    charts: Markup
    same: list[str]


def _curve(name: str, look: int, rows: pd.DataFrame | None, x: str, of: dict[str, tuple[str, str]]) -> Series:
    """Return a curve, or a legend that says there is none: a revision has its colour in every chart."""
    if rows is None:
        return Series(f"{name}: none", [], [], look=look)
    curve = rows.groupby(x).agg(**of)
    return Series(name, curve.index.tolist(), curve.y.tolist(), curve.low.tolist(), curve.high.tolist(), look)


def overlays(revisions: Sequence[Revision], dataset: str) -> list[Overlay]:
    """Return the curves of a data set, each a chart with a curve a revision, unless it is the same in all."""
    eps_text, size_text = partial(curves.eps_text, dataset=dataset), "{:g}".format
    standard, means, widest = "Standard accuracy by", curves.MEANS, curves.WIDEST
    kinds: list[tuple] = [
        (f"{standard} training eps", _by_training_eps, means, "eps_train", "training eps", eps_text, {}),
        ("Robust accuracy", _by_test_eps, widest, "eps_test", "eps of the attack", eps_text, {"box": True}),
        (f"{standard} training-set size", _by_size, widest, "n_train", "training images", size_text, {"log": True}),
    ]
    found = []
    for title, tables, of, x, x_label, x_text, axis in kinds:
        each = [tables(one.runs[dataset], dataset) if dataset in one.runs else {} for one in revisions]
        drawn, same = [], []
        for name in dict.fromkeys(name for rows in each for name in rows):
            series = [
                _curve(one.name, look, rows.get(name), x, of)
                for look, (one, rows) in enumerate(zip(revisions, each, strict=True))
            ]
            if len({repr(replace(curve, name="", look=0)) for curve in series}) == 1:
                same.append(name)
            else:
                drawn.append(chart(name, series, x_label=x_label, x_text=x_text, **axis))
        found.append(Overlay(title, Markup("").join(drawn), same))
    return found


# ---- Page ---------------------------------------------------------------------------------------------------------


def render(templates: Path, revisions: Sequence[Revision]) -> str:
    """Return the page that compare.html.j2 in `templates` makes of the revisions, in the style of the report."""
    loader = jinja2.FileSystemLoader(templates)
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True)
    own = {name: Markup((templates / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    run = [dataset for dataset in facts.in_order() if any(dataset in revision.runs for revision in revisions)]
    sections = [
        {
            "key": dataset,
            "title": facts.of(dataset).title,
            "lacking": [revision.name for revision in revisions if dataset not in revision.runs],
            "ledger": ledger(revisions, dataset),
            "accuracy": standard_accuracy(revisions, dataset),
            "overlays": overlays(revisions, dataset),
        }
        for dataset in run
    ]
    return environment.get_template("compare.html.j2").render(
        revisions=revisions,
        parameters=parameters(revisions),
        exact=ledger(revisions),
        sections=sections,
        coloured=page.coloured,
        counted=counted,
        **own,
    )
