"""`make gpu-check` on the CPU: every part runs, and what is left out is named. Nothing is timed."""

import csv
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from scipy import stats

from benchmarks import gpu_check
from benchmarks.gpu_check import ON_CPU, Table, difference, markdown
from robacc.balls import STANDARD
from robacc.images import in_memory
from robacc.params import load
from robacc.training.hardware import CPU
from tests.recipes_made_up import ROOT, random_images


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small paper recipes and random images of MNIST, as the current one."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    small = {"batch_size": 4, "attack_steps": 1, "attack_step_size": 1.0}
    content["recipes"]["mnist-paper"] |= {**small, "arch": "narrow_cnn"}
    content["recipes"]["cifar10-paper"] |= small
    content["recipes"]["restricted-imagenet-paper"] |= small
    content["recipes"]["mnist-laptop"] |= {"arch": "narrow_cnn", "batch_size": 50}
    yaml.dump(content, tmp_path / "params.yaml")
    images = random_images(60)
    for split in ("train", "test"):
        in_memory.save(images.x, images.y, tmp_path / "data/mnist" / f"{split}.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of torchrun's processes
    sizes = {"n_attacked": 4, "n_autoattack": 2, "steps": {"mnist": 5, "cifar10": 1}}
    monkeypatch.setattr(gpu_check, "ON_CPU", replace(ON_CPU, **sizes))
    return tmp_path


def table(folder: Path, minutes: float = 60) -> Table:
    return Table(folder / "cpu", time.monotonic() + 60 * minutes)


def test_all_parts_run_on_a_cpu_and_say_what_they_left_out(project, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    # Random images teach no net anything, and the checks of the attack would say so.
    monkeypatch.setattr(gpu_check, "attacks_of", lambda table, *_: table.add("attacks", "mnist linf-0.3", "cpu"))
    found = table(project)
    gpu_check.run(found, gpu_check.PARTS)
    assert found.failed() == 0, found.rows
    assert {row["part"] for row in found.rows} == {"choice", "step", "torchrun", "accuracy", "attacks"}
    steps = [row for row in found.rows if row["part"] == "step" and "ms_a_step" in row]
    assert [row["case"].split()[0] for row in steps] == [name for name in gpu_check.ASSUMED for _ in range(2)]
    assert {row["note"] for row in steps} == {"batch 2 of 4"}
    (several,) = (row for row in found.rows if row["part"] == "torchrun")
    assert several["processes"] == 2
    assert several["relative_gap_to_one_process"] < 1e-3
    skipped = [row["case"] for row in found.rows if row.get("note", "").startswith("skipped: no GPU")]
    assert skipped == [
        "mixed precision, compilation, CUDA graphs",
        "mnist, mixed precision against float32",
        "mnist, on a GPU",
    ]
    assert any(row["case"] == "cifar10" and "no images in data/cifar10" in row["note"] for row in found.rows)
    with (project / "cpu.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found.rows)
    assert (project / "cpu.md").read_text() == markdown(found.rows)


def test_evaluation_and_autoattack_are_compared_image_by_image(project, monkeypatch):
    outcomes = {"cpu": ([0.1, 0.3, 1.0], 2.0, ["none", "apgd-ce"], 1.0)}
    outcomes["cuda"] = ([0.1, 1.0, 1.0], 1.0, ["square", "apgd-t"], 1.0)
    monkeypatch.setattr(gpu_check, "in_child", lambda work, where, *_: outcomes[where])
    found = table(project)
    gpu_check.attacks_of(found, Path("net"), "mnist", gpu_check.Ball("linf", 0.3), list(outcomes), ON_CPU)
    assert [row["other_eps"] for row in found.rows] == [0, 1]
    assert [row["robust_percent"] for row in found.rows] == [pytest.approx(100 / 3, 1e-3), pytest.approx(200 / 3, 1e-3)]
    assert [(row["by_apgd_ce"], row["by_the_rest"]) for row in found.rows] == [(1, 0), (0, 2)]


@pytest.mark.filterwarnings("ignore:the model answers class")
def test_the_real_attacks_run_where_the_model_is(project):
    from robacc.nets import model as nets

    model = nets.build("narrow_cnn", mean=[0.1], std=[0.3], seed=0)
    spec = {"arch": "narrow_cnn", "mean": [0.1], "std": [0.3], "n_classes": 10}
    nets.save(model, project / "net", spec)
    sizes = replace(ON_CPU, n_attacked=4, n_autoattack=2)
    eps, _, fooled_by, _ = gpu_check.attacked("cpu", project / "net", "mnist", gpu_check.Ball("linf", 0.1), sizes)
    assert len(eps) == 4
    assert len(fooled_by) == 2


def test_an_error_is_a_row_and_ends_nothing(tmp_path):
    found = table(tmp_path)

    def broken() -> dict:
        raise RuntimeError("out of memory\nmore")

    found.measure("step", "mnist", "auto", broken)
    found.measure("step", "cifar10", "auto", lambda: {"ms_a_step": 1.23456})
    assert [row.get("note") for row in found.rows] == ["FAILED: RuntimeError: out of memory", None]
    assert found.rows[1]["ms_a_step"] == 1.235
    assert found.failed() == 1


def test_nothing_begins_when_the_time_is_up(tmp_path):
    found = table(tmp_path, minutes=-1)
    found.measure("step", "mnist", "auto", lambda: pytest.fail("began"))
    assert "the time was up" in found.rows[0]["note"]


def test_a_failed_row_is_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_check", "--parts", "choice"])
    monkeypatch.setattr(gpu_check, "FOLDER", tmp_path)
    monkeypatch.setattr(gpu_check, "run", lambda table, parts: table.add("step", "mnist", note="FAILED: by hand"))
    with pytest.raises(SystemExit, match="1"):
        gpu_check.main()
    assert "2 rows, 1 failed" in capsys.readouterr().out


def test_the_warm_up_is_not_timed(project):
    """The steps of the loop are those of the recipe, and the time of a batch is beside each."""
    recipe = load().recipes["mnist-paper"].model_copy(update={"batch_size": 2})
    images = gpu_check.made_up("mnist", 8)
    sizes = replace(ON_CPU, warm_up=2, timed=3)
    times = gpu_check.timed_steps(images, gpu_check.Job(STANDARD, 8, 0), recipe, CPU, sizes)
    assert len(times) == 1 + 2 + 3
    assert times == sorted(times)
    assert len(images.seconds) == 5
    with pytest.raises(ValueError, match="expected a recipe of more than 5 steps, got 4"):
        short = recipe.model_copy(update={"steps": [[1, 4]]})
        gpu_check.timed_steps(gpu_check.made_up("mnist", 8), gpu_check.Job(STANDARD, 8, 0), short, CPU, sizes)


def test_the_difference_of_precisions_is_that_of_paired_seeds():
    mixed, exact = [0.981, 0.979, 0.983, 0.980], [0.980, 0.980, 0.980, 0.979]
    interval = stats.ttest_rel(mixed, exact).confidence_interval(0.95)
    found = difference(mixed, exact)
    assert found["points"] == pytest.approx(0.1)
    assert found["interval"] == f"[{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"
    assert found["0_inside"] == "yes"
    assert difference([0.9, 0.91, 0.9], [0.8, 0.8, 0.8])["0_inside"] == "NO"


def test_a_table_has_the_columns_of_its_part():
    rows = [
        {"part": "step", "case": "a", "setting": "auto", "ms": 1.5, "note": ""},
        {"part": "choice", "case": "b", "setting": "", "device": "cpu"},
    ]
    text = markdown(rows)
    assert "| case | setting | ms |\n|---|---|---|\n| a | auto | 1.5 |" in text
    assert "| case | device |\n|---|---|\n| b | cpu |" in text
