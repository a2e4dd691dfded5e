"""The store of trained models: each job is trained once, under a key that says all that decides it."""

import dataclasses
import errno
import multiprocessing as mp
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from robacc import provenance
from robacc.balls import STANDARD, Ball
from robacc.files import read_tensors, write_tensors
from robacc.images import batches, in_memory, loading
from robacc.nets import model as nets
from robacc.training import store
from robacc.training.jobs import Job
from robacc.training.store import job_key, train_all, train_one, training_code, training_log
from tests.recipes_made_up import ROOT, random_images, tiny
from tests.test_files import damaged

RECIPE = tiny(weight_decay=0.0, batch_size=4, steps=[[1, 2], [20, 3]])
JOBS = [Job(STANDARD, 10, 0), Job(Ball("linf", 0.1), 20, 1), Job(Ball("l2", 0.5), 10, 2, 0.5)]
SETTINGS = {"log_every": 1, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def train_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty random images on disk."""
    path, images = tmp_path_factory.mktemp("data") / "train.safetensors", random_images(30)
    in_memory.save(images.x, images.y, path)
    return path


@pytest.fixture
def run(train_set: Path) -> Callable[..., list[Path]]:
    """Give run(folder, n_workers): the model files of all jobs."""

    def all_jobs(folder: Path, n_workers: int = 1, settings: dict = SETTINGS, jobs: list[Job] = JOBS) -> list[Path]:
        common = {"train_set": train_set, "recipe": RECIPE, "settings": settings, "checkpoints": folder}
        return train_all(jobs, **common, n_workers=n_workers)

    return all_jobs


# ---- Finished and stopped jobs ------------------------------------------------------------------------------------


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
    images = loading.load(train_set)
    for job, file, n_steps in zip(JOBS, run(tmp_path), [2, 3, 2], strict=True):
        _, spec = nets.load(file)
        assert spec["job"] == job.columns()
        assert spec["data"] == images.sha256
        assert spec["subset"] == batches.subset_hash(batches.nested_subset(images.y, job.n_train, seed=job.seed))
        assert [row["step"] for row in training_log(file)] == list(range(1, n_steps + 1))


def test_more_images_than_there_are_are_refused_before_any_training(run, tmp_path):
    # fault: n_train above the images there are
    with pytest.raises(ValueError, match=r"expected n_train and sizes in params\.yaml of at most \d+, .*, got 9999$"):
        run(tmp_path, jobs=[JOBS[0], dataclasses.replace(JOBS[0], n_train=9999)])
    assert not list(tmp_path.glob("*.model"))


def test_a_finished_job_is_not_trained_again(run, tmp_path, capsys):
    for file in run(tmp_path, jobs=JOBS[:2]):
        write_tensors({}, file, {"kept": True})
    files = run(tmp_path)
    assert [read_tensors(file)[1].get("kept", False) for file in files] == [True, True, False]
    assert run(tmp_path) == files
    summaries = re.findall(r"^(\d) jobs trained in \d+ s, (\d) finished already$", capsys.readouterr().out, re.M)
    assert summaries == [("2", "0"), ("1", "2"), ("0", "3")]


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

    common = {"train_set": train_set, "recipe": RECIPE, "settings": SETTINGS, "code": "code"}
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
    assert list((tmp_path / "stopped").glob("[!.]*")) == [resumed]


COMMON = {"recipe": RECIPE, "settings": SETTINGS, "code": "code"}


def stopped(train_set: Path, folder: Path) -> Path:
    """Return the checkpoint of a job that was stopped after a step."""

    class Stop(Exception):
        pass

    def stop(steps: int) -> None:
        if steps and list(folder.glob("*.running")):
            raise Stop

    with pytest.raises(Stop):
        train_one(JOBS[1], stop, train_set=train_set, checkpoints=folder, **COMMON)
    (running,) = folder.glob("*.running")
    return running


# fault: a .model or .running in checkpoints/ that is empty, cut, one byte longer, or has a bit flipped
@pytest.mark.parametrize("kind", ["model", "running"])
@pytest.mark.parametrize("how", ["empty", "cut", "longer", "one bit"])
def test_a_damaged_file_is_named_in_one_line_and_its_job_trained_again(kind, how, train_set, tmp_path, capsys):
    whole, _ = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path / "whole", **COMMON)
    folder = tmp_path / "damaged"
    if kind == "model":
        folder.mkdir()
        path = Path(shutil.copy(whole, folder))
    else:
        path = stopped(train_set, folder)
    path.write_bytes(damaged(path.read_bytes())[how])
    counted: list[int] = []
    again, is_new = train_one(JOBS[1], counted.append, train_set=train_set, checkpoints=folder, **COMMON)
    assert is_new
    assert counted == [0, 1, 1, 1]  # from the first step
    assert again.read_bytes() == whole.read_bytes()
    said = capsys.readouterr().out
    assert said == f"{path} is damaged: removed, and its job is trained again: {JOBS[1]}\n"


# fault: checkpoints/ on a full disk
@pytest.mark.parametrize("n_writes", [0, 1, 2])
def test_on_a_full_disk_nothing_is_lost_and_the_job_goes_on_when_there_is_room(
    n_writes, train_set, tmp_path, monkeypatch
):
    whole, _ = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path / "whole", **COMMON)
    left, sync = [None] * n_writes, os.fsync

    def fills(file: int) -> None:
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left.pop()
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills)
        with pytest.raises(
            OSError, match=r"^cannot write .*full/\w+\.(running|model): No space left on device; nothing"
        ):
            train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path / "full", **COMMON)
    counted: list[int] = []
    again, _ = train_one(JOBS[1], counted.append, train_set=train_set, checkpoints=tmp_path / "full", **COMMON)
    assert counted == [n_writes, *[1] * (3 - n_writes)]
    assert again.read_bytes() == whole.read_bytes()


# fault: checkpoints/ in a folder that cannot be written
def test_a_folder_that_cannot_be_written_is_named_before_any_training(train_set, tmp_path):
    (tmp_path / "file").touch()
    counted: list[int] = []
    with pytest.raises(OSError, match=r"^cannot write .*file/checkpoints/\.lock: Not a directory; nothing is lost"):
        train_one(JOBS[1], counted.append, train_set=train_set, checkpoints=tmp_path / "file/checkpoints", **COMMON)
    assert counted == []


def hold(key: str, folder: Path, held: Event, enough: Event) -> None:
    with store._lock(key, folder, JOBS[1]):
        held.set()
        enough.wait()


@contextmanager
def held_by_another(key: str, folder: Path) -> Iterator[tuple[BaseProcess, Event]]:
    """Let another process hold the lock of a job until the event that is given is set, or the block ends."""
    context = mp.get_context("fork")
    held, enough = context.Event(), context.Event()
    other = context.Process(target=hold, args=(key, folder, held, enough), daemon=True)
    other.start()
    try:
        while not held.wait(0.1):
            assert other.is_alive(), "it ended without the lock"
        yield other, enough
    finally:
        if other.is_alive():  # a killed one that waits would never answer
            enough.set()
        other.join()


# fault: two processes that train the same jobs side by side
def test_a_job_that_another_process_trains_is_waited_for_and_not_trained(train_set, tmp_path, capfd):
    whole, _ = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path / "whole", **COMMON)
    folder, results, said = tmp_path / "shared", [], ""
    work = partial(train_one, JOBS[1], lambda _: None, train_set=train_set, checkpoints=folder, **COMMON)
    waits = threading.Thread(target=lambda: results.append(work()))
    with held_by_another(whole.stem, folder) as (_, enough):
        (folder / f".1.partial.{whole.name}").touch()  # the other one writes it
        waits.start()
        while "\n" not in said:
            assert waits.is_alive(), "it did not wait"
            said += capfd.readouterr().out
            time.sleep(0.01)
        assert said == f"{JOBS[1]}: another process trains it; waiting for that one\n"
        (folder / f".1.partial.{whole.name}").rename(folder / whole.name)
        shutil.copy(whole, folder)
        enough.set()
        waits.join()
    assert results == [(folder / whole.name, False)]


def test_another_job_is_not_waited_for(train_set, tmp_path):
    with held_by_another("0" * 24, tmp_path):
        _, is_new = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path, **COMMON)
    assert is_new


# fault: a killed process leaves no lock that blocks
def test_the_lock_of_a_killed_process_is_free(train_set, tmp_path):
    whole, _ = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path / "whole", **COMMON)
    with held_by_another(whole.stem, tmp_path) as (other, _):
        other.kill()
        other.join()
        _, is_new = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path, **COMMON)
    assert is_new


# fault: half-written files of killed processes stay in checkpoints/
def test_what_a_killed_process_left_half_written_is_removed_by_the_next_run_of_its_job(train_set, tmp_path):
    whole, _ = train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path / "whole", **COMMON)
    own = [f".7.partial.{whole.stem}{end}" for end in (".model", ".running")]
    others = [f".7.partial.{'0' * 24}.model", ".8.partial.notes.txt"]
    for name in own + others:
        (tmp_path / name).touch()
    train_one(JOBS[1], lambda _: None, train_set=train_set, checkpoints=tmp_path, **COMMON)
    assert not [name for name in own if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in others)


# ---- Keys ---------------------------------------------------------------------------------------------------------


def key(job: Job = JOBS[1], recipe: dict | None = None, **change: str | int) -> str:
    recipe = RECIPE.model_copy(update=recipe)
    return job_key(job, recipe, **{"data": "data", "code": "code", "log_every": 1, "hardware": "cpu", **change})


@pytest.mark.parametrize(
    "job",
    [
        Job(Ball("l2", 0.1), 20, 1),
        Job(Ball("linf", 0.2), 20, 1),
        Job(Ball("linf", 0.1), 21, 1),
        Job(Ball("linf", 0.1), 20, 2),
        Job(Ball("linf", 0.1), 20, 1, 0.5),
    ],
    ids=str,
)
def test_another_job_has_another_key(job):
    assert key(job) != key()


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
    assert key(recipe=change) != key()


def test_the_steps_of_other_sizes_do_not_change_the_key():
    assert key(recipe={"steps": [[1, 7], [20, 3]]}) == key()


@pytest.mark.parametrize(
    "change", [{"data": "other"}, {"code": "other"}, {"log_every": 2}, {"hardware": "auto"}], ids=str
)
def test_other_data_code_and_settings_have_another_key(change):
    # trap 37
    assert key(**change) != key()


def test_another_version_of_pytorch_has_another_key(monkeypatch):
    # trap 37
    before = key()
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert key() != before


def test_the_code_of_a_job_is_what_trains_its_net_on_its_images(tmp_path, monkeypatch):
    # trap 37: an edit of what only runs jobs, or of another net, trains nothing again
    shutil.copytree(ROOT / "robacc", tmp_path / "robacc", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    before = training_code(RECIPE, random_images(10))

    def changes(module: str) -> bool:
        file = tmp_path / "robacc" / f"{module}.py"
        text = file.read_text()
        file.write_text(f"{text}\nEDITED = True\n")
        after = training_code(RECIPE, random_images(10))
        file.write_text(text)
        return after != before

    others = ["parallel", "plan", "params", "training/store", "training/distributed", "attack/adversary"]
    others += ["images/loading", "images/on_disk", "nets/cifar_resnet", "nets/paper_cnn"]
    own = ["attack/norms", "attack/pgd", "training/train", "nets/layers", "nets/narrow_cnn", "images/in_memory"]
    assert [module for module in others + own if changes(module)] == own
    assert training_code(RECIPE.model_copy(update={"arch": "paper_cnn"}), random_images(10)) != before
