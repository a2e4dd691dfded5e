"""The pieces of the report page: tables, intervals and pictures as HTML text."""

import base64
import hashlib
from collections import Counter
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from robacc.claims import PAPER_EPS
from robacc.provenance import code_hash, device_kind, library_versions

__all__ = ["PAPER_EPS", "device_kind", "library_versions"]

PICTURE_RULE = (
    "Of each class the first test image that every model classifies correctly; the same images for every model; seed 0."
)
MIME = {"svg": "image/svg+xml", "png": "image/png"}


def embed(name: str, kind: str, folder: Path = Path("reports/figures")) -> str:
    """Return a figure as a data URI, so that the page needs no other file."""
    content = (folder / f"{name}.{kind}").read_bytes()
    return f"data:{MIME[kind]};base64,{base64.b64encode(content).decode()}"


def html_table(table: pd.DataFrame) -> Markup:
    """Return a table without its index; headings say what the columns are."""
    return Markup(table.to_html(index=False, border=0, na_rep="", justify="left"))


def interval(measure: dict) -> str:
    """Return a share as percentage points with its interval, n and number of seeds."""
    value, low, high = (100 * measure[key] for key in ("value", "low", "high"))
    if measure["seeds"] < 2:
        text = f"{value:+.2f} points [one seed, no interval]"
    else:
        text = f"{value:+.2f} points [{low:+.2f}, {high:+.2f}]"
    return f"{text} (n = {measure['n']:,}, {measure['seeds']} seeds)"


def count_verdicts(claims: list[dict]) -> str:
    """Return how many claims came out how, in words."""
    counts = Counter(claim["verdict"] for claim in claims)
    return f"Of {len(claims)} claims decided here, " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def summary(claims: list[dict]) -> str:
    """Return the ledger as a Markdown table, for readers without the report."""
    lines = [count_verdicts(claims) + ".", "", "| claim | the paper says | verdict | measured |", "|---|---|---|---|"]
    for claim in claims:
        measured = "<br>".join(f"{measure['name']}: {interval(measure)}" for measure in claim["measures"])
        cells = [claim["id"], claim["statement"], claim["verdict"], f"{measured}<br>{claim['remark']}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences(here: dict, paper: dict) -> list[tuple[str, str, str]]:
    """Return (key, value here, value there) of every setting that differs."""
    return [(key, str(here[key]), str(paper[key])) for key in here if here[key] != paper[key]]


def percent(values: pd.Series) -> str:
    """Return mean and, of several, the range of shares, in percent."""
    mean = f"{100 * values.mean():.2f}"
    return mean if len(values) < 2 else f"{mean} ({100 * values.min():.2f} to {100 * values.max():.2f})"


def _training(table: pd.DataFrame) -> pd.Series:
    threat = table.norm_train + " eps " + table.eps_train.map("{:g}".format)
    return threat.where(table.norm_train != "standard", "standard")


def seeds_by_size(sizes: pd.DataFrame) -> str:
    """Return the number of seeds at each training-set size, in words."""
    seeds = sizes.groupby("n_train").seed.nunique()
    return ", ".join(f"{size:,}: {n}" for size, n in seeds.items())


def size_table(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return mean standard accuracy in percent, a row a training, a column a size."""
    rows = sizes.assign(training=_training(sizes))
    table = rows.pivot_table(index="training", columns="n_train", values="accuracy", sort=False)
    table.columns = [f"n = {size:,}" for size in table.columns]
    return (100 * table).round(2).reset_index()


def robust_table(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies in percent, mean and range over seeds, a row a training, a column an attack."""
    rows = accuracy[accuracy.natural_fraction == 0].assign(training=_training)
    rows = rows.assign(
        attack=rows.norm_test.where(rows.norm_test != "none", "none") + rows.eps_test.map(" {:g}".format)
    )
    rows["attack"] = rows.attack.replace("none 0", "standard accuracy")
    table = rows.pivot_table(index="training", columns="attack", values="accuracy", aggfunc=percent, sort=False)
    return table.reset_index().rename_axis(None, axis=1)


def picture_table(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers for the pictures in percent, mean and range over seeds, a row a training."""
    rows = numbers[~numbers.quantity.str.startswith("path_")].assign(training=_training)
    rows["column"] = (rows.quantity + " " + rows.norm).str.strip().str.replace("_", " ")
    table = rows.pivot_table(index="training", columns="column", values="mean", aggfunc=percent, sort=False)
    return table.reset_index().rename_axis(None, axis=1)


def half_table(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return Table 4: standard and robust accuracy at the training eps, all adversarial and mixed."""
    own = (accuracy.norm_test == accuracy.norm_train) & (accuracy.eps_test == accuracy.eps_train)
    rows = accuracy[((accuracy.norm_test == "none") | own)].assign(training=_training)
    rows["kind"] = rows.norm_test.where(rows.norm_test == "none", "robust").replace("none", "standard")
    rows["column"] = rows.kind + " accuracy, " + rows.natural_fraction.map("{:.0%} natural".format)
    table = rows.pivot_table(index="training", columns="column", values="accuracy", aggfunc=percent, sort=False)
    return table.reset_index().rename_axis(None, axis=1)


def file_hash(*files: Path) -> str:
    """Return the SHA-256 of the contents of `files`, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def hashes(data: Path = Path("data/mnist")) -> dict[str, str]:
    """Return the hashes of data, code and parameters that the report names."""
    return {
        "Training data, SHA-256": file_hash(data / "train.safetensors"),
        "Test data, SHA-256": file_hash(data / "test.safetensors"),
        "Code of training": code_hash("stages.train", "stages.size_sweep"),
        "Code of evaluation": code_hash("stages.evaluate"),
        "Code of pictures": code_hash("stages.visualize"),
        "params.yaml, SHA-256": file_hash(Path("params.yaml")),
    }
