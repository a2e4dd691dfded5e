"""The report of a run that never was, with any data sets: each has its panels, each other one its command."""

import base64
import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import results_made_up
from ruamel.yaml import YAML

from robacc import panels
from stages import claims, report

ROOT = Path(__file__).parent.parent
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SAME = ["figure-5a", "figure-5b", "figure-5c", "figure-5-noise", "theory-frontier", "theory-dimension"]


def names(letters: str) -> set[str]:
    numbered = {f"figure-{number}{letter}" for number in (1, 2, 3, 4, 6, 7, 8, 9, 10) for letter in letters}
    return numbered | {f"figure-4{letter}-judge" for letter in letters} | {f"robust-accuracy-{x}" for x in letters}


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Give page(data sets): the report of a run of these, and the summary."""

    def make(*datasets: str) -> tuple[str, str]:
        yaml = YAML(typ="rt", pure=True)
        parameters = yaml.load(ROOT / "params.yaml")
        parameters["run"] = {name: [name] if name in datasets else [] for name in panels.NAMES}
        yaml.dump(parameters, tmp_path / "params.yaml")
        shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.chdir(tmp_path)
        results_made_up.write_exact(tmp_path)
        about = {"sha256": "0", "source": "user's JPEG tree", "missing": ["n01641577"]}
        for dataset in datasets:
            results_made_up.write(tmp_path, dataset, right=0.85, about=json.dumps(about))
            claims.main(Namespace(dataset=dataset))
        figures = tmp_path / "reports/figures"
        figures.mkdir(parents=True)
        for name in {*SAME, *names("".join(panels.LETTERS[dataset] for dataset in datasets))}:
            for kind in ("png", "svg"):
                (figures / f"{name}.{kind}").write_bytes(PIXEL)
        report.main(Namespace())
        return (tmp_path / "reports/index.html").read_text(), (tmp_path / "reports/summary.md").read_text()

    return make


@pytest.mark.parametrize("datasets", [["mnist"], ["mnist", "cifar10"], list(panels.NAMES), ["restricted_imagenet_64"]])
def test_each_data_set_run_has_every_panel_and_each_other_one_its_command(page, datasets):
    text, summary = page(*datasets)
    letters = "".join(panels.LETTERS[dataset] for dataset in datasets)
    assert set(re.findall(r'<figure id="([^"]*)">', text)) == names(letters) | set(SAME)
    for dataset, name in panels.NAMES.items():
        assert (f"<code>make {dataset}</code>" in text) == (dataset not in datasets)
        assert (f"{name}, test data, SHA-256" in text) == (dataset in datasets)
        assert (f"## {name}\n" in summary) == (dataset in datasets and dataset != "mnist")
        assert (f'id="ledger-{dataset}"' in text) == (dataset in datasets and dataset != "mnist")
    assert "C6" in summary
    assert not re.findall(r"(?i)>\s*(?:nan|none|inf|undefined)\s*<", text)


def test_captions_say_what_was_done(page):
    text, _ = page("mnist", "cifar10")
    captions = dict(re.findall(r'<figure id="([^"]*)">.*?<figcaption>(.*?)</figcaption>', text, re.DOTALL))
    assert "Left out, as none of the first 3 test images" in captions["figure-2b"]
    assert "blue positive" in captions["figure-2a"]
    assert "zero is mid-grey" in captions["figure-2b"]
    assert "3 seeds" in captions["figure-7b"]
    assert "1,000 test images" in captions["figure-7b"]
    assert "figures_2_10_gradients-cifar10.ipynb" in captions["figure-10b"]
    assert text.count("so it is lossy. Recipe") == 2
    assert text.count("<p>train and test: n01641577</p>") == 2
