"""Make the parts of the report page: tables, intervals and pictures as HTML text."""

import base64
import hashlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from latex2mathml.converter import convert
from markupsafe import Markup, escape
from PIL import Image
from safetensors import safe_open

from robacc.balls import NORMS
from robacc.datasets import facts
from robacc.files import must_exist
from robacc.paper import published
from robacc.paper.ledger import ACCURACIES, NOT_TESTED, UNKNOWN, WORDS
from robacc.params import Attack
from robacc.provenance import device_kind, library_versions
from robacc.report import curves, findings, forest, selection

__all__ = ["NORMS", "device_kind", "library_versions"]

# The words for each source in the metadata of the data. A data set with a single source has no name for it.
SOURCES = {
    "": "the published files",
    "official archive": "the published archive",
    "user's PNG tree": "a copy of the user's, PNG images, not lossy",
    "user's JPEG tree": "a copy of the user's in which images are JPEG, so it is lossy",
    "user's ImageNet": "the user's copy of ImageNet (JPEG, as it is published)",
}
ON = {"all": ", all images", "sample": ", same images"}  # headings of standard accuracy beside robust accuracy
MIME = {"svg": "image/svg+xml", "png": "image/png", "webp": "image/webp"}


def _webp(image: Image.Image, *, lossless: bool, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=lossless, quality=quality, method=6)
    return content.getvalue()


def embed(name: str, kind: str, folder: Path = Path("reports/figures")) -> str:
    """Return a figure as a data URI, so that the page needs no other file.

    "webp" is the PNG in a smaller format. It is lossless, or lossy where that is smaller, as for colour pictures.
    """
    content = (folder / f"{name}.{'png' if kind == 'webp' else kind}").read_bytes()
    if kind == "webp":
        image = Image.open(io.BytesIO(content)).convert("RGB")
        content = min((_webp(image, lossless=True, quality=80), _webp(image, lossless=False, quality=60)), key=len)
    return f"data:{MIME[kind]};base64,{base64.b64encode(content).decode()}"


def render(templates: Path, **content: object) -> str:
    """Return the page that report.html.j2 in `templates` makes of `content`.

    A missing name raises an error.
    """
    loader = jinja2.FileSystemLoader(templates)
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True)
    own = {name: Markup((templates / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    modules = {"page": sys.modules[__name__], "facts": facts, "findings": findings, "forest": forest, "curves": curves}
    return environment.get_template("report.html.j2").render(**modules, **own, **content)


def picture_rule(files: Iterable[Path], dataset: str) -> str:
    """Return the rule by which the figures chose their images, from the pictures.npz of every model."""

    def labels() -> Iterator[dict[str, np.ndarray]]:
        for file in files:
            with np.load(must_exist(file), allow_pickle=False) as arrays:
                yield {name: arrays[name] for name in ("y", "predicted")}

    return selection.choose(labels(), facts.of(dataset).classes).rule


def data_source(folder: Path) -> dict[str, str]:
    """Return the source of the `data` in a folder, and the classes that it `lacks`, in words.

    Only the headers of the files are read.
    """
    about = {}
    for split in ("train", "test"):
        with safe_open(must_exist(folder / f"{split}.safetensors"), "numpy") as file:
            about[split] = json.loads(file.metadata()["json"])["metadata"]
    sources = {SOURCES.get(part.get("source", ""), part.get("source", "")) for part in about.values()}
    lacking: dict[str, list[str]] = {}  # missing classes -> the splits that lack them
    for split, part in about.items():
        if part.get("missing"):
            lacking.setdefault(", ".join(part["missing"]), []).append(split)
    lacks = [f"{' and '.join(splits)}: {classes}" for classes, splits in lacking.items()]
    return {"data": " and ".join(sorted(sources)), "lacks": "; ".join(lacks)}


def counted(n: int, unit: str) -> str:
    """Return a number with its unit in the singular or plural."""
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"


def drawn(n: int, n_all: int, seed: int) -> str:
    """Return which test images a number is of, in words: the first `n` in the balanced order of `seed`."""
    if n >= n_all:
        return f"all {n_all:,} test images"
    return f"{n:,} of the {n_all:,} test images, drawn at random by class (seed {seed}), the same for every model"


def math(formula: str) -> Markup:
    """Return a LaTeX formula as MathML, which browsers show without scripts."""
    return Markup(convert(formula))


def html_table(table: pd.DataFrame, about: str) -> Markup:
    """Return a table as HTML that scrolls by itself, without its index.

    The headings describe the columns, and `about` says to those who do not see it what the table is.
    """
    html = table.to_html(index=False, border=0, na_rep="", justify="left", escape=True)
    return scrolling(Markup(html), about)


def scrolling(table: Markup, about: str) -> Markup:
    """Return a table in a region that scrolls by itself, with the keyboard too."""
    return Markup('<div class="scroll" tabindex="0" role="region" aria-label="{}">{}</div>').format(about, table)


def measure_table(claim: dict) -> pd.DataFrame:
    """Return the measures of a claim: shares in percent and differences in points, with their intervals.

    Columns that say nothing of this claim are left out.
    """
    rows = []
    for measure in claim["measures"]:
        value, spread, both = _limits(measure)
        row = {"measure": measure["name"], "value": value, "interval": spread, "images random too": both}
        rows.append({**row, "n": f"{measure['n']:,}" if measure["n"] else "exact", "seeds": str(measure["seeds"])})
    table = pd.DataFrame(rows)
    return table[[name for name in table if (table[name] != "").any()]]


def interval(measure: dict) -> str:
    """Return a share in percent, or a difference in points, with its interval if it has one.

    The interval with test images random as well stands behind it.
    """
    value, spread, both = _limits(measure)
    text = f"{measure['name']}: {value}" + (f" {spread}" if spread else "")
    return text + (f" (images random too: {both})" if both else "")


def _limits(measure: dict) -> tuple[str, str, str]:
    """Return a measure's value with its unit, its interval, and that with random images; "" for none."""
    sign, unit = ("+", " points") if measure["is_difference"] else ("", " %")

    def brackets(low: float, high: float) -> str:
        return f"[{100 * low:{sign}.2f}, {100 * high:{sign}.2f}]"

    spread = brackets(measure["low"], measure["high"]) if measure["low"] < measure["high"] else ""
    if (measure["low"], measure["high"]) == UNKNOWN:
        spread = "[one seed, no interval]"
    both = brackets(*measure["both"]) if measure.get("both") else ""
    return f"{100 * measure['value']:{sign}.2f}{unit}", spread, both


def sample(measure: dict) -> str:
    """Return the number of examples and seeds of a measure, in words.

    A measure without examples is exact.
    """
    if measure["n"] == 0:
        return "exact"
    return f"n = {measure['n']:,}" + (f", {measure['seeds']} seeds" if measure["seeds"] > 1 else "")


def measured(claim: dict) -> list[str]:
    """Return the lines on what was measured for a claim: its numbers, their samples, the remark, others' numbers."""
    samples = [sample(measure) for measure in claim["measures"]]
    if len(set(samples)) == 1:
        lines = [interval(measure) for measure in claim["measures"]] + [f"({samples[0]})"]
    else:
        lines = [f"{interval(measure)} ({text})" for measure, text in zip(claim["measures"], samples, strict=True)]
    others = [f"Published: {line}" for line in claim["published"]]
    return lines + ([claim["remark"]] if claim["remark"] else []) + others


def count_verdicts(claims: list[dict]) -> str:
    """Return the number of readings for each verdict, in words.

    A claim that is read in two norms, or at two eps, has several readings.
    """
    counts = Counter(reading["verdict"] for claim in claims for reading in claim["readings"])
    said = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
    return f"Verdicts on {counted(len(claims), 'claim')}, by norm and place: {said or NOT_TESTED}"


def coloured(verdict: str) -> Markup:
    """Return a verdict's line as HTML, with each of its words in a span of that class."""
    words = "|".join((*WORDS, NOT_TESTED))
    return Markup(re.sub(rf"\b({words})\b", lambda found: _span(found[0]), str(escape(verdict))))


def _span(word: str) -> str:
    return f'<span class="{word.replace(" ", "-")}">{word}</span>'


def effects(runs: dict[str, dict]) -> list[dict]:
    """Return the effects of all claims of all data sets."""
    return [effect for run in runs.values() for claim in run["claims"] for effect in claim["effects"]]


def named(runs: dict[str, dict]) -> dict[str, list[dict]]:
    """Return the claims of each data set by its name for readers, of the reader's own images first."""
    return {run["name"]: run["claims"] for run in sorted(runs.values(), key=lambda run: run["key"] != "own")}


def by_number(claims: list[dict]) -> list[dict]:
    """Return claims in the order C1, C2, ..., C13."""
    return sorted(claims, key=lambda claim: int(claim["id"][1:]))


def _summary_table(claims: list[dict]) -> list[str]:
    lines = [count_verdicts(claims) + ".", "", "| claim | the paper says | verdict | measured |", "|---|---|---|---|"]
    for claim in claims:
        cells = [claim["id"], claim["statement"], claim["verdict"], "<br>".join(measured(claim))]
        escaped = [cell.replace("|", "\\|") for cell in cells]
        lines.append(f"| {' | '.join(escaped)} |")
    return lines


def summary(claims: list[dict], further: dict[str, list[dict]]) -> str:
    """Return the ledger as a Markdown table, for readers without the report.

    Each data set in `further` has one more table.
    """
    lines = _summary_table(claims)
    for name, of_name in further.items():
        lines += ["", f"## {name}", "", *_summary_table(of_name)]
    return "\n".join(lines) + "\n"


def differences(here: dict, paper: dict) -> list[tuple[str, str, str]]:
    """Return (key, value here, value there) of every setting that differs, with steps at full size only."""
    return [(key, str(here[key]), str(paper[key])) for key in here if here[key] != paper[key]]


def _spread(values: pd.Series, digits: int) -> str:
    low, mean, high = (f"{value:.{digits}f}" for value in (values.min(), values.mean(), values.max()))
    return mean if len(values) < 2 else f"{mean} ({low} to {high})"


def percent(values: pd.Series) -> str:
    """Return the mean of shares in percent.

    Several shares also have their range.
    """
    return _spread(100 * values, 2)


def length(values: pd.Series) -> str:
    """Return the mean of distances between images.

    Several distances also have their range.
    """
    return _spread(values, 3)


def _training(table: pd.DataFrame) -> pd.Series:
    threat = table.norm_train + " eps " + table.eps_train.map("{:g}".format)
    return threat.where(table.norm_train != "standard", "standard")


def seeds_text(table: pd.DataFrame) -> str:
    """Return the number of seeds of a ball in `table`, in words: as many as each has, or from fewest to most."""
    counts = table.groupby("model").seed.nunique()
    return counted(counts.max(), "seed") if counts.nunique() == 1 else f"{counts.min()} to {counts.max()} seeds a ball"


def seeds_by_size(sizes: pd.DataFrame) -> str:
    """Return the number of seeds of a ball at each training-set size, in words."""
    return ", ".join(f"{size:,}: {seeds_text(rows).split(' seed')[0]}" for size, rows in sizes.groupby("n_train"))


def size_table(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return mean standard accuracy in percent, with a row for each training and a column for each size."""
    rows = sizes.assign(training=_training(sizes))
    table = rows.pivot_table(index="training", columns="n_train", values="accuracy", sort=False)
    table.columns = [f"n = {size:,}" for size in table.columns]
    return (100 * table).round(2).reset_index()


def robust_table(accuracy: pd.DataFrame, checks: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies in percent, as mean and range over seeds.

    Each training has a row. Each attack has a column, beside standard accuracy on all images and on those attacked. A
    star marks a training of which some model has a note.
    """
    rows = accuracy[accuracy.natural_fraction == 0].assign(training=_training)
    marked = checks[noted(checks) & (checks.natural_fraction == 0)].model
    rows["training"] += rows.model.isin(marked).map({True: " *", False: ""})
    attack = rows.norm_test + rows.eps_test.map(" {:g}".format)
    rows["attack"] = attack.where(rows.norm_test != "none", "standard accuracy" + rows.images.map(ON))
    table = rows.pivot_table(index="training", columns="attack", values="accuracy", aggfunc=percent, sort=False)
    return table.reset_index().rename_axis(None, axis=1)


LENGTHS = ("radius", "alignment")  # the numbers for the pictures that are no shares


def gradient_table(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers for the gradients as mean and range over seeds, in percent where they are shares.

    Each training has a row. The robust radius stands beside the alignment.
    """
    rows = numbers[~numbers.quantity.str.startswith(("changed", "judged_", "nearest_", "path_"))]
    is_length = rows.quantity.isin(LENGTHS)
    parts = [_by_training(rows[is_length], length), _by_training(rows[~is_length], percent)]
    return pd.concat(parts, axis=1).reset_index()


def examples_table(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers for the large-eps examples in percent, as mean and range over seeds.

    Each training has a row.
    """
    return _by_training(numbers[numbers.quantity.str.startswith(("changed", "judged_"))], percent).reset_index()


def nearest_right(numbers: pd.DataFrame) -> str:
    """Return in percent for how many images the nearest training image has the right class."""
    return f"{100 * numbers[numbers.quantity == 'nearest_right']['mean'].mean():.1f}"


def _by_training(numbers: pd.DataFrame, text: Callable[[pd.Series], str]) -> pd.DataFrame:
    norm = (" " + numbers.norm).where(numbers.norm != "none", "")
    column = (numbers.quantity + norm).str.replace("_", " ")
    rows = numbers.assign(training=_training, column=column)
    table = rows.pivot_table(index="training", columns="column", values="mean", aggfunc=text, sort=False)
    return table.rename_axis(None, axis=1)


def opinion_table(opinions: pd.DataFrame) -> pd.DataFrame:
    """Return robust accuracy in percent by PGD, by AutoAttack and by both, on the same images.

    Each model and ball has a row.
    """
    names = {"pgd": "PGD", "autoattack": "AutoAttack", "worst": "either: pointwise worst case"}
    rows = opinions.assign(training=_training, attack=opinions.attack.map(names))
    rows["training"] += _mixed(rows)
    rows["ball"] = rows.norm_test + rows.eps_test.map(" eps {:g}".format)
    table = rows.pivot_table(
        index=["training", "ball"], columns="attack", values="accuracy", aggfunc=percent, sort=False
    )
    return table.reset_index().rename_axis(None, axis=1)


def masking_text(checks: pd.DataFrame) -> str:
    """Return the extremes over all models of the checks of gradient masking, in words.

    A model with a note was not checked.
    """

    def largest(change: pd.Series) -> str:
        return f"{100 * change.max():.1f}"

    checks = checks[~noted(checks)]
    if checks.empty:
        return "none could be checked"
    own = checks.masking_rob_acc
    parts = [
        f"at most {largest(checks.masking_zero_gradients)} % of a model's gradients exactly zero",
        f"two gradients at an image differ by at most {largest(checks.masking_gradient_noise)} %",
        f"a step of a tenth of eps brings at least {100 * checks.masking_promise.min():.0f} % of the change that the "
        "gradient promises",
        f"three times the steps find at most {largest(own - checks.masking_more_steps)} points more",
        f"two restarts of all at most {largest(own - checks.masking_more_restarts)}",
        f"a mean gradient of points nearby at most {largest(own - checks.masking_smoothed)}",
        f"a search without gradients at most {largest(own - checks.masking_square)}",
        f"accuracy with the whole box allowed is at most {largest(checks.masking_huge_eps)} %",
    ]
    if "masking_transfer" in checks and checks.masking_transfer.notna().any():
        weaker = 100 * (checks.masking_transfer - own).min()
        parts.append(f"examples made on another seed's model leave at least {weaker:.1f} points more standing")
    return "; ".join(parts)


def noted(checks: pd.DataFrame) -> pd.Series:
    """Return which rows of the checks have a note: the model answers one class for nearly everything."""
    return checks.note.notna() & (checks.note != "")


def notes(checks: pd.DataFrame) -> pd.DataFrame:
    """Return the models whose accuracy is that of a constant, with a row for each; there may be none."""
    rows = checks[noted(checks)]
    columns = {"model": rows.model + _mixed(rows), "seed": rows.seed, "attacked in": rows.norm}
    return pd.DataFrame({**columns, "robust accuracy says nothing, as the model": rows.note})


def _mixed(rows: pd.DataFrame) -> pd.Series:
    return rows.natural_fraction.map(", {:.0%} natural".format).where(rows.natural_fraction > 0, "")


def shown(dataset: str, tables: dict[str, pd.DataFrame]) -> dict:
    """Return what the page says about a data set: its names, its result tables, and numbers from them."""
    accuracy, checks = tables["accuracy"], tables["checks"]
    return {
        "key": dataset,
        "name": facts.of(dataset).title,
        "letter": facts.of(dataset).letter,
        "tables": tables,
        "n_test": int(accuracy[accuracy.images == "all"].n.max()),
        "seeds": seeds_text(accuracy[accuracy.images == "all"]),
        "attacked_seeds": seeds_text(accuracy[accuracy.images == "sample"]),
        "largest_excess": f"{checks.largest_excess.max():.1e}",
        "masking": masking_text(checks),
        "sizes_text": seeds_by_size(tables["sizes"]),
    }


def beyond_pgd(opinions: pd.DataFrame) -> pd.Series:
    """Return for each model and ball the share of images that AutoAttack fools and PGD does not."""
    keys = ["model", "natural_fraction", "seed", "norm_test", "eps_test"]
    table = opinions.pivot(index=keys, columns="attack", values="accuracy")
    return table.pgd - table.worst


def rest_text(opinions: pd.DataFrame, rest: list[str]) -> str:
    """Return how many more images the attacks in `rest` fooled than the other attacks of AutoAttack, in words.

    The attacks in `rest` run on some models only.
    """
    met = opinions[(opinions.attack == "worst") & opinions.attacks.str.split().map(set(rest).issubset)]
    if met.empty or not rest:
        return ""
    alone = sum(int(pd.to_numeric(met[f"first_{name}"]).sum()) for name in rest)
    found = f"where they fooled {alone} images that the others had not"
    return f"; {' and '.join(rest)} as well on {len(met)} of them, {found}"


def paired_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons of models on the same images, in points.

    Each pair of models has a row.
    """
    ours = pairs.model + _mixed(pairs)
    points = [
        f"{100 * gap:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        for gap, low, high in zip(pairs.difference, pairs.low, pairs.high, strict=True)
    ]
    columns = {
        "model": ours,
        "against": pairs.base,
        "seed": pairs.seed,
        "accuracy": pairs.kind.map(ACCURACIES),
        "n": pairs.n,
    }
    counts = {"only the first right": pairs.only_ours, "only the second": pairs.only_base, "points": points}
    return pd.DataFrame({**columns, **counts, "p (McNemar)": pairs.p_value.map("{:.2g}".format)})


def published_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return the published numbers that were read at their source, in percent, with a row for each net."""
    rows = published.read(table)
    columns = {"data set": rows.dataset, "training": rows.training, "norm": rows.norm, "eps": rows.eps}
    accuracies = {"standard accuracy": rows.std_acc, "robust accuracy": rows.rob_acc, "attack": rows.attack}
    return pd.DataFrame({**columns, **accuracies, "read at": rows.source})


def half_table(accuracy: pd.DataFrame, others: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return Table 4: standard and robust accuracy at the training eps, all adversarial and mixed.

    Standard accuracy is on all images, and on those that robust accuracy is of. The table has the models that were
    trained in both ways, on the seeds that have both. The last columns are the paper's own numbers, from the table of
    published numbers.
    """
    accuracy = accuracy[accuracy.seed.isin(accuracy[accuracy.natural_fraction > 0].seed)]
    accuracy = accuracy[accuracy.model.isin(accuracy[accuracy.natural_fraction > 0].model)]
    own = (accuracy.norm_test == accuracy.norm_train) & (accuracy.eps_test == accuracy.eps_train)
    rows = accuracy[((accuracy.norm_test == "none") | own)].assign(training=_training)
    standard = "standard accuracy" + rows.images.map(ON)
    kind = standard.where(rows.norm_test == "none", "robust accuracy")
    rows["column"] = kind + ", " + rows.natural_fraction.map("{:.0%} natural".format)
    table = rows.pivot_table(index="training", columns="column", values="accuracy", aggfunc=percent, sort=False)
    balls = rows.drop_duplicates("training").set_index("training")[["norm_train", "eps_train"]].loc[table.index]
    for share in sorted(rows.natural_fraction.unique()):
        table[f"the paper, {share:.0%} natural (standard / robust)"] = [
            published.table_4(others, dataset, norm, eps, share) for norm, eps in balls.itertuples(index=False)
        ]
    return table.reset_index().rename_axis(None, axis=1)


def linear_table(accuracy: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Return Table 5: accuracies in percent of the standard and the most robust linear model.

    Each fit has a row.
    """
    keys = ["optimizer", "l2", "eps_train"]
    strongest = accuracy.eps_test.max()
    rows = accuracy[accuracy.eps_train.isin([0.0, accuracy.eps_train.max()]) & accuracy.eps_test.isin([0.0, strongest])]
    names = {"none": "standard", "linf": "adversarial", "linf-box": "adversarial, pixels kept in [0, 1]"}
    rows = rows.assign(column=rows.split.map(str) + ", " + rows.attack.map(names))
    table = rows.pivot_table(index=keys, columns="column", values="accuracy", sort=False).mul(100).round(2)
    sizes = models.set_index(keys)[["l1_norm", "gradient_norm", "iterations"]]
    sizes["gradient_norm"] = sizes.gradient_norm.map("{:.0e}".format)
    table = table.join(sizes.round(2)).reset_index()
    names = {"l2": "l2 penalty", "eps_train": "training eps", "l1_norm": "norm of w in l1", "gradient_norm": "gradient"}
    return table.assign(l2=table.l2.map("{:g}".format)).rename(columns=names)


def optimum_table(optimum: pd.DataFrame) -> pd.DataFrame:
    """Return the exact optima that fulfil Theorem 2.2's hypotheses, with accuracies in percent."""
    rows = optimum[optimum.violated == ""]
    percents = {f"{name}, %": (100 * rows[kind]).round(4) for kind, name in ACCURACIES.items()}
    settings = rows[["p", "d", "strength"]].rename(columns={"strength": "eta sqrt(d)"})
    return settings.assign(**{"training eps / eta": (rows.eps_train / rows.eta).round(2)}, **percents)


def transfer_table(transfer: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of victims on perturbations made without them.

    Each victim has a row, and each p a column.
    """
    rows = transfer[(transfer.source == "distribution") & (transfer.strength == transfer.strength.max())]
    victim = rows.victim.where(
        rows.eps_train == 0, rows.victim + " (training eps " + rows.eps_train.map("{:.3f}".format) + ")"
    )
    rows = rows.assign(victim=victim, column=rows.p.map("p = {:g}".format))
    table = rows.pivot_table(index="victim", columns="column", values="adv_acc", aggfunc=percent, sort=False)
    return table.reset_index().rename_axis(None, axis=1)


def file_hash(*files: Path) -> str:
    """Return the SHA-256 of the contents of `files`, in this order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def attack_text(attack: Attack) -> str:
    """Return how robust accuracy was attacked, in words for a caption."""
    n, shares = len(attack.restarts), [f"{100 * share:g}" for share in attack.restarts]
    text = f"{attack.quick_steps} PGD steps from a random start"
    if n:
        text += (
            f", then up to {n} restarts of {attack.n_steps} steps in a ball that shrinks from "
            f"{attack.first_radius:g} eps to eps, each on the images that came {', '.join(shares)} % of the way"
        )
    searched = [f"{n_queries} queries in {norm}" for norm, n_queries in attack.n_queries.items() if n_queries]
    return text + (f", and a search without gradients of at most {' and '.join(searched)}" if searched else "")
