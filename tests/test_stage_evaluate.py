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
from robacc.params import Attack, Dataset, Evaluate, Natural, Seeds
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
    parameters["datasets"]["mnist"]["seeds"] |= {"first": 0, "n": 2, "n_deciding": 2, "n_attacked": 2}
    parameters["datasets"]["mnist"]["natural"] = {"fractions": [0.0], "balls": []}
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


SEEDS = Seeds(first=7, n=2, deciding=["standard", "l2-1.5"], n_deciding=4, n_attacked=3)
NATURAL = Natural(fractions=[0.0, 0.5], balls=["l2-1.5"])
DATASET = Dataset(recipe="none", n_train=100, sizes=[[10, 2]], seeds=SEEDS, sample_seed=0, natural=NATURAL)
SETTINGS = Evaluate(n_images=20, eps={"l2": [0.5, 1.0], "linf": [0.1]}, attack=Attack.standard(), seed=0, n_checked=5)


@pytest.mark.parametrize(
    ("ball", "expected"),
    [
        (
            "standard",
            [(seed, 0.0, norm, grid) for norm, grid in (("l2", [0.5, 1.0]), ("linf", [0.1])) for seed in (7, 8, 9)]
            + [(10, 0.0, "l2", [])],
        ),
        (
            "l2-1.5",
            [(seed, 0.0, "l2", [0.5, 1.0, 1.5]) for seed in (7, 8, 9)]
            + [(seed, 0.5, "l2", [1.5]) for seed in (7, 8, 9)]
            + [(10, 0.0, "l2", [])],
        ),
        ("linf-0.1", [(seed, 0.0, "linf", [0.1]) for seed in (7, 8)]),
    ],
)
def test_the_first_seeds_are_attacked_and_the_others_have_standard_accuracy_alone(ball, expected):
    tasks = evaluate.tasks(parse(ball), Path("m"), DATASET, SETTINGS)
    assert [(task.seed, task.natural_fraction, task.norm, task.eps_grid) for task in tasks] == expected
    assert all(task.file == Path(f"m/seed{task.seed}-natural{task.natural_fraction}.safetensors") for task in tasks)


def test_transferred_attacks_come_from_another_attacked_seed_of_the_same_training():
    for task in evaluate.tasks(parse("l2-1.5"), Path("m"), DATASET, SETTINGS):
        following = {7: 8, 8: 9, 9: 7, 10: 10}[task.seed]
        assert task.other == Path(f"m/seed{following}-natural{task.natural_fraction}.safetensors")
