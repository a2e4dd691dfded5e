"""The published models: each ball's of the first seed with its card, and the notebook in which they are tried."""

import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from gto.constants import assert_name_is_valid
from ruamel.yaml import YAML

from robacc import params, plan
from robacc.balls import STANDARD, Ball
from robacc.files import read_tensors
from robacc.images import in_memory, loading
from robacc.images.sample import balanced_order
from robacc.nets import model as nets
from robacc.training.jobs import Job
from stages import figures, identity, publish
from tests import results_made_up

ROOT = Path(__file__).parent.parent
P = params.load(ROOT / "params.yaml")
BALLS = plan.balls(P, "mnist")
SEED, N_TRAIN = P.datasets["mnist"].seeds.first, P.datasets["mnist"].n_train
NAMES = {f"mnist-{ball}.safetensors" for ball in BALLS}
ARGUMENTS = Namespace(dataset="mnist")


def source(ball: Ball, seed: int = SEED) -> Path:
    return Path(f"models/mnist-{ball}/seed{seed}-natural0.0.safetensors")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Go to a folder with untrained models of two seeds, test images and accuracies: what the stage reads."""
    monkeypatch.chdir(tmp_path)
    for name in ("robacc", "stages", "params.yaml"):
        Path(name).symlink_to(ROOT / name)
    recipe = plan.recipe(P, "mnist")
    spec = {"arch": recipe.arch, "mean": recipe.mean, "std": recipe.std, "n_classes": recipe.n_classes, "data": "da7a"}
    for ball in BALLS:
        for seed in (SEED, SEED + 1):
            net = nets.build(recipe.arch, mean=recipe.mean, std=recipe.std, seed=seed, n_classes=recipe.n_classes)
            about = {**spec, "job": Job(ball, N_TRAIN, seed).columns(), "log": [{"step": 50}, {"step": 77}]}
            nets.save(net, source(ball, seed), about)
    x = torch.randint(256, (100, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    in_memory.save(x, torch.arange(100) % 10, Path("data/mnist/test.safetensors"))
    accuracy = results_made_up.tables("mnist", 2)["accuracy"]
    accuracy["seed"] += SEED
    Path("results/mnist").mkdir(parents=True)
    accuracy.to_csv("results/mnist/accuracy.csv", index=False)
    return tmp_path


@pytest.fixture
def published(project):
    publish.main(ARGUMENTS)
    return project / "pretrained"


# ---- The stage ----------------------------------------------------------------------------------------------------


def test_each_ball_has_its_model_of_the_first_seed_as_it_was_trained(published):
    assert {file.name for file in published.iterdir()} == {*NAMES, "images.safetensors", "README.md"}
    for ball in BALLS:
        file = published / f"mnist-{ball}.safetensors"
        assert file.read_bytes() == source(ball).read_bytes()
        assert nets.load(file)[1]["job"] == Job(ball, N_TRAIN, SEED).columns()


def test_the_images_are_the_first_of_each_class_in_the_order_of_the_sample(published):
    test = loading.load(Path("data/mnist/test.safetensors"))
    order = balanced_order(test.y, seed=P.datasets["mnist"].sample_seed).tolist()
    n = P.visualize["mnist"].n_per_class
    index = [i for label in range(10) for i in [i for i in order if test.y[i] == label][:n]]
    images = loading.load(published / "images.safetensors")
    assert torch.equal(images.first()[0], test.batch(torch.tensor(index))[0])
    assert torch.equal(images.y, torch.arange(10).repeat_interleave(n))


def test_the_card_has_recipe_data_and_every_accuracy_with_its_interval(published):
    card = (published / "README.md").read_text()
    assert "`da7a`" in card
    assert f"on {N_TRAIN:,} images, 77 steps" in card
    for key, value in plan.recipe(P, "mnist").model_dump(exclude={"steps"}).items():
        assert f"| {key} | {value} |" in card
    rows = pd.read_csv("results/mnist/accuracy.csv", keep_default_na=False)
    rows = rows[(rows.seed == SEED) & (rows.natural_fraction == 0)]
    rows = rows[(rows.norm_test != "none") | (rows.images == "all")]
    lines = card.splitlines()
    for row in rows.itertuples():
        cell = f"{100 * row.accuracy:.1f} % [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        if row.norm_test == "none":
            (line,) = [line for line in lines if line.startswith(f"| [`{row.model}.safetensors`]")]
            assert line.endswith(f"| {cell} |")
        else:
            (head,) = [i for i, line in enumerate(lines) if line.startswith(f"| {row.norm_test} |")]
            (line,) = [line for line in lines[head : head + 2 + len(BALLS)] if line.startswith(f"| {row.model} |")]
            column = lines[head].strip("| ").split(" | ").index(f"eps {row.eps_test}")
            assert line.strip("| ").split(" | ")[column] == cell
    assert "## What they are for" in card
    assert "nan" not in card


def test_the_example_of_the_card_runs(published, capsys):
    (example,) = [part.split("```")[0] for part in (published / "README.md").read_text().split("```python\n")[1:]]
    exec(compile(example, "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.removeprefix("tensor(").removesuffix(")\n")) <= 1


def test_the_same_results_give_the_same_bytes(published):
    before = {file.name: file.read_bytes() for file in published.iterdir()}
    shutil.rmtree(published)
    publish.main(ARGUMENTS)
    assert {file.name: file.read_bytes() for file in published.iterdir()} == before


@pytest.mark.parametrize("what", ["missing", "damaged", "not evaluated"])
def test_without_every_model_and_its_accuracy_nothing_is_published(project, what):
    file, table = source(BALLS[-1]), Path("results/mnist/accuracy.csv")
    if what == "missing":
        file.unlink()
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        rows = pd.read_csv(table)
        rows[(rows.seed != SEED) | (rows.model != f"mnist-{BALLS[-1]}")].to_csv(table, index=False)
    with pytest.raises((FileNotFoundError, ValueError), match=r"^expected .*run.*$") as error:
        publish.main(ARGUMENTS)
    assert str(BALLS[-1]) in str(error.value)
    assert not Path("pretrained").exists()


# ---- What is in the repository ------------------------------------------------------------------------------------


def test_the_artifacts_are_the_published_models():
    artifacts = YAML(typ="safe").load(ROOT / "dvc.yaml")["artifacts"]
    assert [of["path"] for of in artifacts.values()] == [f"pretrained/mnist-{ball}.safetensors" for ball in BALLS]
    for (name, of), ball in zip(artifacts.items(), BALLS, strict=True):
        assert_name_is_valid(name)
        assert of["type"] == "model"
        assert of["desc"] == (
            "standard training" if ball.is_standard else f"adversarial training in {ball.norm}, eps {ball.eps}"
        )


def test_the_models_in_the_repository_are_those_of_params_and_under_6_mb():
    folder = ROOT / "pretrained"
    files = {file.name: file for file in folder.iterdir()}
    assert set(files) == {*NAMES, "images.safetensors", "README.md"}
    assert sum(file.stat().st_size for file in files.values()) < 6e6
    about = {name: read_tensors(files[name])[1]["job"] for name in NAMES}
    assert about == {f"mnist-{ball}.safetensors": Job(ball, N_TRAIN, SEED).columns() for ball in BALLS}


# ---- The notebook -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("published")
@pytest.mark.filterwarnings("ignore")  # papermill's own
def test_the_notebook_runs_from_its_own_folder_without_data_or_training(tmp_path, monkeypatch):
    shutil.rmtree("data")
    shutil.rmtree("models")
    Path("notebooks").mkdir()
    shutil.copy(ROOT / identity.EXPLORE, "notebooks")
    monkeypatch.chdir("notebooks")
    monkeypatch.setenv("IPYTHONDIR", str(ROOT / ".ipython"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    sockets = tmp_path / "s"
    sockets.mkdir()
    figures.execute(Path("explore.ipynb"), int, folder=tmp_path / "executed", sockets=sockets, parameters={})
    cells = json.loads((tmp_path / "executed/explore.ipynb").read_text())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) >= 2


class Widget(SimpleNamespace):
    """What the notebook uses of a widget: values, and calls when one changes."""

    def observe(self, call, name):
        assert name == "value"
        self.call = call

    def choose(self, value):
        self.value = value
        self.call({"new": value})


@pytest.fixture
def notebook(published, monkeypatch):
    """Give the names of the notebook after its run beside made-up widgets, and what it asked them for."""
    asked = {}
    made_up = dict.fromkeys(("FloatSlider", "IntSlider", "SelectMultiple", "ToggleButtons"), Widget)
    interact = lambda call, **widgets: asked.update(widgets, call=call)  # noqa: E731
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(**made_up, interact=interact))
    monkeypatch.setattr(sys, "path", [*sys.path])
    mpl.use("agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    names: dict = {}
    with mpl.rc_context():
        exec(compile("\n".join(identity.code(ROOT / identity.EXPLORE)), "explore", "exec"), names)
        plt.close("all")
        yield names, asked
    plt.close("all")


def test_every_end_of_every_slider_is_drawn_and_eps_has_the_scale_of_its_norm(notebook):
    _, asked = notebook
    show, norm, eps = asked.pop("call"), asked["norm"], asked["eps"]
    largest = P.visualize["mnist"].large_eps
    assert tuple(norm.options) == ("l2", "linf")
    assert [ball for _, ball in asked["shown"].options] == BALLS
    assert asked["shown"].value == (STANDARD, Ball("l2", 2.5), Ball("linf", 0.3))
    for name in ("linf", "l2"):
        norm.choose(name)
        assert (eps.max, eps.value) == (largest[name], pytest.approx(largest[name] / 2))
        assert eps.min == 0
    ends = {"digit": ("min", "max"), "example": ("min", "max"), "eps": ("min", "max")}
    for side in (0, 1):
        values = {key: getattr(asked[key], of[side]) for key, of in ends.items()}
        show(**values, norm="l2", shown=asked["shown"].value)
        assert len(plt.gcf().axes) == 1 + 3 * 3
    show(digit=4, example=0, norm="linf", eps=0.3, shown=tuple(BALLS))
    bars = [axis for axis in plt.gcf().axes if axis.patches]
    assert len(bars) == len(BALLS)
    heights = [[bar.get_height() for bar in part] for axis in bars for part in axis.containers]
    assert all(sum(of) == pytest.approx(1, abs=1e-4) for of in heights)


def test_what_cannot_be_shown_is_refused(notebook):
    for asked, message in (
        ({"digit": 10}, "expected a digit of 0 to 9, one of its 5 examples, counted from 0, and a net, got 10, 0"),
        ({"example": 5}, "got 3, 5"),
        ({"shown": ()}, r"got 3, 0 and \(\)"),
        ({"norm": "l1"}, "expected norm"),
        ({"eps": -1.0}, "expected eps"),
    ):
        with pytest.raises(ValueError, match=message):
            notebook[0]["show"](**asked)
