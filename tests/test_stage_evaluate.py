"""The evaluation of models of which one collapsed to a class: the stage goes on, and the page marks the row."""

import shutil
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from robacc.balls import parse
from robacc.files import write_csv
from robacc.images import in_memory
from robacc.nets import model as nets
from robacc.report import page
from robacc.seeding import generator
from robacc.training.jobs import model_name
from stages import evaluate, summarize
from tests.made_up_attacks import weak

ROOT = Path(__file__).parent.parent
BALL, NAME = parse("linf-0.3"), "mnist-linf-0.3"
ATTACK = dict(weak(n_steps=20))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Give a folder with 100 images and two models of linf 0.3. The second answers class 3 for all of them."""
    spec = {"arch": "narrow_cnn", "mean": [0.5], "std": [0.25], "n_classes": 10}
    x = torch.rand(100, 1, 28, 28, generator=generator(0, "images"))
    x = (255 * x).round().to(torch.uint8)
    net = nets.build("narrow_cnn", mean=[0.5], std=[0.25], seed=0).eval()
    bias = net[1][-1].bias
    with torch.no_grad():
        bias -= net(x / 255).mean(0)
    y = nets.predict(net, x / 255)
    assert len(y.unique()) > 3
    in_memory.save(x, y, tmp_path / "data/mnist/test.safetensors")
    nets.save(net, tmp_path / "models" / NAME / f"{model_name(0, 0.0)}.safetensors", spec)
    with torch.no_grad():
        bias[3] += 1000
    nets.save(net, tmp_path / "models" / NAME / f"{model_name(1, 0.0)}.safetensors", spec)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    yaml = YAML(typ="rt", pure=True)
    parameters = yaml.load(tmp_path / "params.yaml")
    parameters["datasets"]["mnist"] |= {"n_seeds": 2, "natural": {"fractions": [0.0], "balls": []}}
    parameters["evaluate"]["mnist"] |= {"n_images": 256, "n_checked": 20, "attack": ATTACK}
    parameters["evaluate"]["mnist"]["eps"]["linf"] = [0.001]
    parameters["autoattack"]["mnist"]["standard_in"] = ["l2-1.5"]
    yaml.dump(parameters, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBACC_WORKERS", "1")
    return tmp_path


@pytest.mark.filterwarnings("default:the (other )?model answers class 3")
def test_a_collapsed_model_ends_no_run_and_its_row_is_marked(folder):
    evaluate.main(Namespace(dataset="mnist", ball=BALL))
    accuracy = pd.read_csv(folder / "results/evaluate" / NAME / "accuracy.csv")
    assert len(accuracy[accuracy.seed == 1]) == 4  # standard on all and on the attacked images, and two eps
    collapsed = accuracy[(accuracy.seed == 1)].n_correct
    assert (collapsed == collapsed.iloc[0]).all()  # all images are attacked
    write_csv(summarize.collect("evaluate/{}/checks.csv", {NAME: BALL}), folder / "checks.csv")
    checks = pd.read_csv(folder / "checks.csv")
    assert checks.note.isna().tolist() == [True, False]
    assert checks.one_class.iloc[0] < 0.9
    assert checks.one_class.iloc[1] == 1
    masking = checks[[name for name in checks if name.startswith("masking_")]]
    assert masking.iloc[0].notna().all()
    assert masking.iloc[1].isna().all()
    assert page.notes(checks).to_numpy().tolist() == [[NAME, 1, "linf", "answers class 3 for 100% of the images"]]
    assert "nan" not in page.masking_text(checks)
