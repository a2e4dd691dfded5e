"""Which modules and notebooks a stage is made of, and the hash of all of them: what DVC knows of a stage's code."""

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from robacc import provenance
from robacc.datasets import facts, own
from robacc.params import Params

FOLDER = Path("code")
# Stages with one result a data set, and stages with one result. Claims and figures are in both: theory and the linear
# model are of no data set.
OF_DATASETS = (
    "fetch",
    "train",
    "train_judges",
    "size_sweep",
    "evaluate",
    "autoattack",
    "visualize",
    "summarize",
    "figures",
    "claims",
)
ALONE = ("theory", "linear", "figures", "claims", "report")
# The nets of MNIST are small enough to be in git.
OF_MNIST = ("publish",)
EXPLORE = Path("notebooks/explore.ipynb")  # of no stage: it computes what its reader asks for


def name(stage: str, dataset: str | None) -> str:
    """Return the name of the stage's file in `FOLDER`: train-mnist, theory."""
    return f"{stage}-{dataset}" if dataset else stage


def every_stage() -> Iterator[tuple[str, str | None]]:
    """Yield (stage, data set) of every file in `FOLDER`, whether the data set is run or not."""
    yield from ((stage, None) for stage in ALONE)
    yield from ((stage, "mnist") for stage in OF_MNIST)
    yield from ((stage, dataset) for dataset in facts.NAMES for stage in OF_DATASETS)


def notebooks(dataset: str | None) -> list[Path]:
    """Return the notebooks that are drawn for a data set, those with a cell tagged "parameters", or the others."""
    files = sorted({*Path("notebooks").glob("*.ipynb")} - {EXPLORE})
    return [file for file in files if ('"parameters"' in file.read_text(encoding="utf-8")) == (dataset is not None)]


def sources(file: Path) -> list[str]:
    """Return the cells of a notebook as they are shown, text and code."""
    return ["".join(cell["source"]) for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]]


def modules(stage: str, dataset: str | None, p: Params) -> list[str]:
    """Return the modules of this project that a stage runs, those that it imports by name among them."""
    roots = {f"stages.{stage}", "stages.environment"}
    if stage == "figures":
        cells = "\n".join(text for file in notebooks(dataset) for text in code(file))
        roots |= {each for each in provenance.imports(cells) if provenance.is_module(each)}
    if stage == "fetch":
        roots.add(f"robacc.sources.{dataset}")
    found = provenance.closure(*roots)
    of = [dataset] if dataset else list(facts.NAMES)
    if "robacc.datasets.facts" in found:
        roots |= {f"robacc.datasets.{each}" for each in of}
    if "robacc.nets.model" in found and dataset:
        roots.add(f"robacc.nets.{p.recipes[p.datasets[dataset].recipe].arch}")
    if "robacc.images.loading" in found and dataset:
        roots.add(f"robacc.images.{facts.of(dataset).stored}")
    return provenance.closure(*roots)


def code(file: Path) -> list[str]:
    """Return the code cells of a notebook."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def stage_hash(stage: str, dataset: str | None, p: Params) -> str:
    """Return the SHA-256 of all that a stage runs, and of the versions of the libraries that decide its numbers."""
    made_of = modules(stage, dataset, p)
    parts = [provenance.code_hash(*made_of), *provenance.libraries(*made_of)]
    if own.__name__ in made_of:
        parts.append(own.FILE.read_text(encoding="utf-8"))
    if stage == "figures":  # text too: the executed notebook shows it
        parts += [text for file in notebooks(dataset) for text in sources(file)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def check(stage: str, dataset: str | None, p: Params) -> None:
    """Raise ValueError unless the code that a stage runs is the one that its file in `FOLDER` names.

    All of it is imported first: what is hashed afterwards is what runs, also if a file changes later. DVC would record
    a result of other code under the hash that `code` wrote, for good.
    """
    for module in modules(stage, dataset, p):
        if module.startswith("robacc."):  # the stage's own script runs already
            import_module(module)
    file = FOLDER / name(stage, dataset)
    if not file.exists() or file.read_text(encoding="utf-8").strip() != stage_hash(stage, dataset, p):
        raise ValueError(f"expected the code that {file} names, got code changed since; run `dvc repro` without -s")
