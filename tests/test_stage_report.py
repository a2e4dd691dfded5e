"""The report of a run that never was, with any data sets: each has its panels, each other one its command."""

import base64
import hashlib
import json
import re
import shutil
from argparse import Namespace
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from robacc.datasets import facts
from stages import claims, report
from tests import results_made_up

ROOT = Path(__file__).parent.parent
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
EXACT = {"figure-5a", "figure-5b", "figure-5c", "figure-5-noise", "theory-frontier", "theory-dimension"}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def figures(dataset: str) -> set[str]:
    """Return the names of the figures of a data set."""
    letter = facts.of(dataset).letter
    numbered = {f"figure-{number}{letter}" for number in (1, 2, 3, 4, 6, 7, 8, 9, 10)}
    return numbered | {f"figure-4{letter}-judge", f"robust-accuracy-{letter}"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Give pages(data sets): the folder of a run of these, with its report."""

    @cache
    def make(*datasets: str) -> Path:
        folder = tmp_path_factory.mktemp("run")
        yaml = YAML(typ="rt", pure=True)
        parameters = yaml.load(ROOT / "params.yaml")
        parameters["run"] = {name: [name] if name in datasets else [] for name in facts.NAMES}
        yaml.dump(parameters, folder / "params.yaml")
        (folder / "stages").mkdir()
        shutil.copy(ROOT / "stages/report.html.j2", folder / "stages")
        results_made_up.write_exact(folder)
        about = {"sha256": "0", "source": "user's JPEG tree", "missing": ["n01641577"]}
        for name, shown in {"exact": EXACT, **{dataset: figures(dataset) for dataset in datasets}}.items():
            (folder / "reports/figures" / name).mkdir(parents=True)
            for figure, kind in product(shown, ("png", "svg")):
                (folder / f"reports/figures/{name}/{figure}.{kind}").write_bytes(PIXEL)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for dataset in datasets:
                results_made_up.write(folder, dataset, right=0.85, about=json.dumps(about))
                claims.main(Namespace(dataset=dataset))
            report.main(Namespace())
        return folder

    return make


def hashes(folder: Path) -> dict[str, str]:
    """Return the hashes that the page names."""
    text = (folder / "reports/index.html").read_text()
    return dict(re.findall(r"<tr><td>([^<]*)</td><td><code>([^<]*)</code></td></tr>", text))


@pytest.mark.parametrize("datasets", [["mnist"], ["mnist", "cifar10"], facts.NAMES, ["restricted_imagenet_64"]])
def test_each_data_set_run_has_every_panel_and_each_other_one_its_command(pages, datasets):
    folder = pages(*datasets)
    text, summary = ((folder / "reports" / name).read_text() for name in ("index.html", "summary.md"))
    assert set(re.findall(r'<figure id="([^"]*)">', text)) == EXACT.union(*map(figures, datasets))
    for dataset in facts.NAMES:
        name = facts.of(dataset).title
        assert (f"<code>make {dataset}</code>" in text) == (dataset not in datasets)
        assert (f"## {name}\n" in summary) == (dataset in datasets and dataset != "mnist")
        assert (f'id="ledger-{dataset}"' in text) == (dataset in datasets and dataset != "mnist")
        assert (f"{name}, test data, SHA-256" in hashes(folder)) == (dataset in datasets)
    assert "C6" in summary
    assert not re.findall(r"(?i)>\s*(?:nan|none|inf|undefined)\s*<", text)


def test_the_hashes_are_those_of_the_files_and_of_the_code_of_each_stage(pages):
    folder = pages("mnist", "cifar10")
    expected = {"Parameters, SHA-256": sha256(folder / "params.yaml")}
    for dataset, title in {"mnist": "MNIST", "cifar10": "CIFAR-10"}.items():
        for kind, split in {"training": "train", "test": "test"}.items():
            expected[f"{title}, {kind} data, SHA-256"] = sha256(folder / f"data/{dataset}/{split}.safetensors")
        for what, stage in {"training": "train", "evaluation": "evaluate", "pictures": "visualize"}.items():
            expected[f"{title}, code of {what}"] = f"hash of {stage} of {dataset}"
    assert hashes(folder) == expected


def test_captions_say_what_was_done(pages):
    text = (pages("mnist", "cifar10") / "reports/index.html").read_text()
    captions = dict(re.findall(r'<figure id="([^"]*)">.*?<figcaption>(.*?)</figcaption>', text, re.DOTALL))
    assert "Left out, as none of the first 3 of the class" in captions["figure-2b"]
    assert "blue positive" in captions["figure-2a"]
    assert "zero is mid-grey" in captions["figure-2b"]
    assert "3 seeds" in captions["figure-7b"]
    assert "all 1,000 test images" in captions["figure-7b"]
    assert "all 1,000 test images" in captions["robust-accuracy-b"]
    for figure in ("figure-2a", "figure-3a", "figure-4a"):
        assert "The sample is drawn at random by class (seed 0)." in captions[figure]
    sampled = "300 of the 1,000 test images, drawn at random by class (seed 0), the same for every model"
    assert sampled in captions["figure-4a-judge"]
    assert f"<p>On {sampled}; 3 seeds" in text
    assert "<th>standard accuracy, all images</th>" in text
    assert "<th>standard accuracy, same images</th>" in text
    assert not re.findall(r"(?i)first (?:[\d,]+ )?test images", text)
    assert "notebooks/cifar10/figures_2_10_gradients.ipynb" in captions["figure-10b"]
    assert text.count("so it is lossy. Recipe") == 2
    assert text.count("<p>train and test: n01641577</p>") == 2
