"""The report of a run that never was, with any data sets: each has its panels, each other one its command."""

import hashlib
import re
from argparse import Namespace
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from robacc.datasets import facts, mnist
from stages import report
from tests import run_made_up
from tests.run_made_up import EXACT, figures


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Give pages(data sets): the folder of a run of these, with its report."""
    return cache(lambda *datasets: run_made_up.report(tmp_path_factory.mktemp("run"), *datasets))


def hashes(folder: Path) -> dict[str, str]:
    """Return the hashes that the page names."""
    text = (folder / "reports/index.html").read_text()
    return dict(re.findall(r'<tr><td>([^<]*)</td><td><code class="hash">([^<]*)</code></td></tr>', text))


@pytest.mark.parametrize("datasets", [["mnist"], ["mnist", "cifar10"], facts.NAMES, ["restricted_imagenet_64"]])
def test_each_data_set_run_has_every_panel_and_each_other_one_its_command(pages, datasets):
    folder = pages(*datasets)
    text, summary = ((folder / "reports" / name).read_text() for name in ("index.html", "summary.md"))
    assert set(re.findall(r'<figure id="([^"]*)">', text)) == EXACT.union(*map(figures, datasets))
    for dataset in facts.NAMES:
        name = facts.of(dataset).title
        assert text.count(f"<code>make {dataset}</code>") == (dataset not in datasets)
        assert (f"## {name}\n" in summary) == (dataset in datasets and dataset != "mnist")
        assert (f'id="explore-{dataset}"' in text) == (dataset in datasets)
        assert (f"{name}, test data, SHA-256" in hashes(folder)) == (dataset in datasets)
    assert "C6" in summary
    finding = re.search(r'<p class="finding">(.*?)</p>', text, re.DOTALL)
    first = "own" if "own" in datasets else datasets[0]
    assert finding
    assert finding[1].startswith(f"On {facts.of(first).title}, ")
    assert f"<th>{facts.of('own').title}, the paper</th>" not in text
    assert not re.findall(r"(?i)>\s*(?:nan|none|inf|undefined)\s*<", text)
    assert not re.findall("std_acc|rob_acc", text + summary)  # names of columns are no words for readers


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
    assert f"<p>The numbers are on {sampled}; 3 seeds" in text
    assert "<th>standard accuracy, all images</th>" in text
    assert "<th>standard accuracy, same images</th>" in text
    assert not re.findall(r"(?i)first (?:[\d,]+ )?test images", text)
    figure = text[text.index('<figure id="figure-10b">') :].split("</figure>")[0]
    assert 'href="notebooks/cifar10/figures_2_10_gradients.ipynb"' in figure
    assert "<code>dvc repro figures_cifar10@cifar10</code>" in figure
    assert text.count("so it is lossy. Recipe") == 2
    assert text.count("<p>train and test: n01641577</p>") == 2


# fault: a class named <script> in a folder of images
def test_a_hostile_class_name_is_shown_and_not_run(pages, monkeypatch):
    folder = pages("mnist")
    hostile = tuple(f"<script>alert({label})</script>" for label in mnist.FACTS.classes)
    monkeypatch.setattr(mnist, "FACTS", replace(mnist.FACTS, classes=hostile))
    monkeypatch.chdir(folder)
    before = (folder / "reports/index.html").read_text()
    report.main(Namespace())
    after = (folder / "reports/index.html").read_text()
    assert "&lt;script&gt;alert(3)" in after
    assert after.count("<script") == before.count("<script")


def test_the_same_results_give_the_same_bytes(pages, monkeypatch):
    folder = pages("mnist", "cifar10")
    before = (folder / "reports/index.html").read_bytes()
    monkeypatch.chdir(folder)
    report.main(Namespace())
    assert (folder / "reports/index.html").read_bytes() == before
