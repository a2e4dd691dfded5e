"""The report of a run that never was, rendered by the stage itself from made-up results and figures of one pixel."""

import base64
import shutil
from argparse import Namespace
from itertools import product
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from robacc.datasets import facts
from stages import claims
from stages import report as stage
from tests import results_made_up

ROOT = Path(__file__).parent.parent
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SQUARE = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
EXACT = {"figure-5a", "figure-5b", "figure-5c", "figure-5-noise", "theory-frontier", "theory-dimension"}
GRIDS = (2, 3, 4, 8, 9, 10)  # the figures that are pictures; the page draws the others itself


def figures(dataset: str) -> set[str]:
    """Return the names of the figures of a data set."""
    letter = facts.of(dataset).letter
    numbered = {f"figure-{number}{letter}" for number in (1, 2, 3, 4, 6, 7, 8, 9, 10)}
    return numbered | {f"figure-4{letter}-judge", f"robust-accuracy-{letter}"}


def report(folder: Path, *datasets: str) -> Path:
    """Return `folder` with the report of a run of these data sets in reports/."""
    yaml = YAML(typ="rt", pure=True)
    parameters = yaml.load(ROOT / "params.yaml")
    parameters["run"] = {name: [name] if name in datasets else [] for name in facts.NAMES}
    yaml.dump(parameters, folder / "params.yaml")
    (folder / "stages").mkdir()
    for name in ("css", "html.j2", "js"):
        shutil.copy(ROOT / f"stages/report.{name}", folder / "stages")
    results_made_up.write_exact(folder)
    about = {"sha256": "0", "source": "user's JPEG tree", "missing": ["n01641577"]}
    grids = {dataset: {f"figure-{n}{facts.of(dataset).letter}" for n in GRIDS} for dataset in datasets}
    for name, shown in {"exact": EXACT, **grids}.items():
        (folder / "reports/figures" / name).mkdir(parents=True)
        for figure, (kind, content) in product(shown, {"png": PIXEL, "svg": SQUARE}.items()):
            (folder / f"reports/figures/{name}/{figure}.{kind}").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for dataset in datasets:
            results_made_up.write(folder, dataset, right=0.85, about=about)
            claims.main(Namespace(dataset=dataset))
        stage.main(Namespace())
    return folder
