"""Many jobs: the same results whatever the workers, and finished ones kept."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from robacc import data, models, sweep
from robacc.sweep import job_key, parallel, train_all, train_one, training_log
from robacc.training import Job
from tests.recipes_made_up import TINY

RECIPE = replace(TINY, weight_decay=0.0, batch_size=4, steps=[[1, 2], [20, 3]])
JOBS = [Job("l2", 0.0, 10, 0), Job("linf", 0.1, 20, 1), Job("l2", 0.5, 10, 2, 0.5)]
SETTINGS = {"log_every": 1, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def train_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty random images on disk."""
    path = tmp_path_factory.mktemp("data") / "train.safetensors"
    x = torch.tensor(np.random.default_rng(0).integers(256, size=(30, 1, 28, 28)), dtype=torch.uint8)
    data.save(x, torch.arange(30) % 10, path)
    return path


@pytest.fixture
def run(train_set: Path) -> Callable[..., list[Path]]:
    """Give run(folder, n_workers): the model files of all jobs."""

    def all_jobs(
        folder: Path, n_workers: int = 1, settings: dict[str, int] = SETTINGS, jobs: list[Job] = JOBS
    ) -> list[Path]:
        common = {"train_set": train_set, "recipe": RECIPE, "settings": settings, "checkpoints": folder}
        return train_all(jobs, **common, n_workers=n_workers)

    return all_jobs


def square(item: int, on_progress: sweep.OnProgress) -> tuple[int, int]:
    on_progress(item)
    return item * item, torch.get_num_threads()


def fail_at_three(item: int, on_progress: sweep.OnProgress) -> int:
    on_progress(1)
    if item == 3:
        raise ValueError("item 3 is bad")
    return item


def remember(item: int, _: sweep.OnProgress, *, folder: Path) -> None:
    with (folder / "order").open("a") as file:
        file.write(f"{item}\n")


@pytest.mark.parametrize("n_workers", [1, 2])
def test_results_come_in_order_from_workers_of_one_thread(n_workers):
    # trap 39
    items = [3, 1, 4, 1, 5, 0]
    results = parallel(square, items, units=items, unit="units", n_workers=n_workers)
    assert results == [(item * item, 1) for item in items]


def test_the_longest_items_start_first(tmp_path):
    parallel(partial(remember, folder=tmp_path), [1, 5, 3], units=[1, 5, 3], unit="units", n_workers=1)
    assert (tmp_path / "order").read_text().split() == ["5", "3", "1"]


@pytest.mark.parametrize(
    ("n_items", "n_workers", "expected"), [(2, 2, 2), (3, 2, 3), (4, 2, 2), (9, 2, 2), (5, 4, 5), (3, 1, 1)]
)
def test_all_items_start_at_once_where_a_second_round_would_leave_workers_idle(
    n_items, n_workers, expected, monkeypatch
):
    asked = []

    class Pool(ProcessPoolExecutor):
        def __init__(self, max_workers: int, *rest: object, **named: object) -> None:
            asked.append(max_workers)
            super().__init__(max_workers, *rest, **named)

    monkeypatch.setattr(sweep, "ProcessPoolExecutor", Pool)
    items = list(range(1, n_items + 1))
    results = parallel(square, items, units=items, unit="units", n_workers=n_workers)
    assert results == [(item * item, 1) for item in items]
    assert asked == [expected]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_ends_the_call_with_that_error(n_workers):
    with pytest.raises(ValueError, match="item 3 is bad"):
        parallel(fail_at_three, [1, 2, 3, 4], units=[1] * 4, unit="units", n_workers=n_workers)


def test_each_finished_item_is_a_line_where_there_is_no_terminal(capsys):
    parallel(square, [2, 3], units=[2, 3], unit="steps", n_workers=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("]")[0] for line in lines] == ["[1/2", "[2/2"]
    assert all("steps/s" in line for line in lines)


def test_one_worker_and_two_give_the_same_models_bit_for_bit(run, tmp_path):
    # trap 25, trap 39
    one, two = run(tmp_path / "one", n_workers=1), run(tmp_path / "two", n_workers=2)
    assert [file.name for file in one] == [file.name for file in two]
    assert len({file.name for file in one}) == 3
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert not list((tmp_path / "one").glob("*.running"))


def test_files_come_in_the_order_of_the_jobs_and_say_what_they_are(run, train_set, tmp_path):
    # trap 27, trap 28
    images = data.load(train_set)
    for job, file in zip(JOBS, run(tmp_path), strict=True):
        _, spec = models.load(file)
        assert Job(**spec["job"]) == job
        assert spec["data"] == images.sha256
        assert spec["subset"] == data.subset_hash(data.nested_subset(images.y, job.n_train, seed=job.seed))
        assert [row["step"] for row in training_log(file)] == list(range(1, RECIPE.n_steps(job.n_train) + 1))


def test_a_finished_job_is_not_trained_again(run, tmp_path, monkeypatch):
    before = {file: file.stat().st_mtime_ns for file in run(tmp_path)}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(sweep, "train", never)
    assert {file: file.stat().st_mtime_ns for file in run(tmp_path)} == before
    with pytest.raises(AssertionError, match="trained again"):
        run(tmp_path, jobs=[replace(JOBS[0], seed=9)])


def test_a_kept_job_has_the_learning_curve_that_was_asked_for(run, tmp_path):
    """`log_every` is in params.yaml: changing it must change the curves, also of finished jobs."""
    first = run(tmp_path, settings={"log_every": 1, "checkpoint_every": 1})
    second = run(tmp_path, settings={"log_every": 2, "checkpoint_every": 2})
    assert [row["step"] for row in training_log(first[0])] == [1, 2]
    assert [row["step"] for row in training_log(second[0])] == [2]


def test_a_stopped_job_goes_on_from_its_checkpoint(train_set, tmp_path):
    # trap 26
    class Killed(Exception):
        pass

    common = {"train_set": train_set, "recipe": RECIPE, "settings": SETTINGS}
    whole, _ = train_one(JOBS[1], lambda _: None, **common, checkpoints=tmp_path / "whole")
    counted: list[int] = []

    def kill(steps: int) -> None:
        counted.append(steps)
        if sum(counted) == 2:
            raise Killed

    with pytest.raises(Killed):
        train_one(JOBS[1], kill, **common, checkpoints=tmp_path / "stopped")
    counted.clear()
    resumed, is_new = train_one(JOBS[1], counted.append, **common, checkpoints=tmp_path / "stopped")
    assert is_new
    assert counted == [1, 1, 1]  # one step was kept, two are done
    assert resumed.read_bytes() == whole.read_bytes()
    assert list((tmp_path / "stopped").iterdir()) == [resumed]


@pytest.mark.parametrize(
    "job",
    [
        replace(JOBS[1], **change)
        for change in ({"norm": "l2"}, {"eps": 0.2}, {"n_train": 21}, {"seed": 2}, {"natural_fraction": 0.5})
    ],
    ids=str,
)
def test_another_job_has_another_key(job):
    assert job_key(job, RECIPE, "data", 1) != job_key(JOBS[1], RECIPE, "data", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"arch": "paper_cnn"},
        {"mean": [0.0]},
        {"std": [1.0]},
        {"optimizer": "sgd"},
        {"lr": [[0.0, 0.02], [1.0, 0.0]]},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"batch_size": 5},
        {"steps": [[1, 2], [20, 4]]},
        {"attack_steps": 3},
        {"attack_step_size": 0.6},
        {"eps_warmup": 0.1},
        {"n_classes": 11},
        {"augment": "crop_flip"},
        {"padding": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_recipe_has_another_key(change):
    # trap 37
    assert job_key(JOBS[1], replace(RECIPE, **change), "data", 1) != job_key(JOBS[1], RECIPE, "data", 1)


def test_the_steps_of_other_sizes_do_not_change_the_key():
    assert job_key(JOBS[1], replace(RECIPE, steps=[[1, 7], [20, 3]]), "d", 1) == job_key(JOBS[1], RECIPE, "d", 1)


def test_other_data_and_other_code_have_another_key(monkeypatch):
    # trap 37
    before = job_key(JOBS[1], RECIPE, "data", 1)
    assert job_key(JOBS[1], RECIPE, "other", 1) != before
    assert job_key(JOBS[1], RECIPE, "data", 1) == before
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "code_hash", lambda *_: "other code")
        assert job_key(JOBS[1], RECIPE, "data", 1) != before
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert job_key(JOBS[1], RECIPE, "data", 1) != before


def test_the_summary_counts_what_was_computed_and_not_what_was_kept(run, tmp_path, capsys):
    run(tmp_path, jobs=JOBS[:2])
    assert "2 jobs on 1 cores" in capsys.readouterr().out
    run(tmp_path)
    assert "1 jobs on 1 cores" in capsys.readouterr().out
    run(tmp_path)
    assert "nothing trained: every job was finished already" in capsys.readouterr().out
