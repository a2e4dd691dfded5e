"""Store finished jobs, so that no job is trained twice, and resume interrupted ones."""

import errno
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import torch

from robacc.files import read_tensors
from robacc.images import batches, loading
from robacc.images.sets import ImageSet
from robacc.nets import model as nets
from robacc.parallel import OnProgress, parallel
from robacc.params import Recipe
from robacc.provenance import code_hash
from robacc.training.jobs import Job
from robacc.training.train import n_steps, train
from robacc.training.world import ALONE, World

Settings = dict[str, Any]  # the section `training` of params.yaml, as keywords of `train`


def training_code(recipe: Recipe, images: ImageSet) -> str:
    """Return the hash of the code that trains net `recipe.arch` on `images`.

    Every module is imported before it is hashed. So the hash is that of the running code, even if a file changes later.
    """
    modules = ("robacc.training.train", f"robacc.nets.{recipe.arch}", type(images).__module__)
    for module in modules:
        import_module(module)
    return code_hash(*modules)


def job_key(job: Job, recipe: Recipe, *, data: str, code: str, log_every: int, hardware: str = "cpu") -> str:
    """Return the key of a job's results, a hash of job, recipe, data, code and PyTorch's version.

    `data` and `code` are hashes. The key includes the setting `hardware`. It does not include the device that "auto"
    chose, nor the number of processes. So a stage on a laptop finds what a machine with GPUs trained. The model file
    records both.
    """
    training = recipe.model_dump() | {"steps": n_steps(recipe, job.n_train)}
    training |= {"log_every": log_every, "hardware": hardware}
    spec = {"job": job.columns(), "recipe": training, "data": data, "code": code, "torch": torch.__version__}
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:24]


def train_one(
    job: Job,
    on_progress: OnProgress,
    *,
    train_set: Path,
    recipe: Recipe,
    settings: Settings,
    checkpoints: Path,
    code: str,
    world: World = ALONE,
) -> tuple[Path, bool]:
    """Train a job unless it is already finished; return its model file, and whether it was trained now.

    The metadata of the file holds the log. `code` is the result of `training_code`. If `world` is several processes,
    each of them calls this function. Only the first one reads and writes models and checkpoints. Raises ValueError if
    data, code or parameters differ between processes.
    """
    images = loading.load(train_set)
    hardware = settings.get("hardware", "cpu")
    key = job_key(job, recipe, data=images.sha256, code=code, log_every=settings["log_every"], hardware=hardware)
    world.check_same(key, "the job's key, of data, code, parameters and PyTorch's version,")
    finished, running = checkpoints / f"{key}.model", checkpoints / f"{key}.running"

    def there() -> bool:
        return world.agree(world.rank == 0 and _undamaged(finished, job))

    if there():
        on_progress(n_steps(recipe, job.n_train))
        return finished, False
    with _lock(key, checkpoints, job) if world.size == 1 else nullcontext():  # torchrun starts no second group
        if there():  # another process has trained it meanwhile
            on_progress(n_steps(recipe, job.n_train))
            return finished, False
        if world.rank == 0:
            _undamaged(running, job)
        progress = train(job, images, recipe, checkpoint=running, on_step=on_progress, world=world, **settings)
        if world.rank == 0:
            subset = batches.subset_hash(batches.nested_subset(images.y, job.n_train, seed=job.seed))
            spec = {"arch": recipe.arch, "mean": recipe.mean, "std": recipe.std, "n_classes": recipe.n_classes}
            spec |= {"job": job.columns(), "data": images.sha256, "subset": subset, "log": progress.log}
            spec |= {"hardware": str(progress.hardware), "processes": world.size}
            nets.save(progress.model, finished, spec)
            running.unlink(missing_ok=True)
        world.wait()
    return finished, True


def _undamaged(path: Path, job: Job) -> bool:
    """Return whether `path` exists as it was written.

    A damaged file is removed, and a line names it.
    """
    try:
        read_tensors(path)
    except FileNotFoundError:
        return False
    except ValueError:
        print(f"{path} is damaged: removed, and its job is trained again: {job}", flush=True)
        path.unlink(missing_ok=True)
        return False
    return True


@contextmanager
def _lock(key: str, checkpoints: Path, job: Job) -> Iterator[None]:
    """Let one process at a time train the job `key`; another one says so and waits.

    What a killed process left of the job's files, half written, is removed: nobody else writes them now. The lock is a
    byte of one file, so that nothing is left to be removed. It ends with its process, even a killed one.
    """
    path = checkpoints / ".lock"
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}; nothing is lost; mend that, and run again") from error
    place = int(key[:15], 16)
    with file:
        try:
            _wait_for(file, place, job)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # a file system without locks
                raise
        else:
            for half in checkpoints.glob(f".*.partial.{key}.*"):
                half.unlink(missing_ok=True)
        yield


def _wait_for(file: BinaryIO, place: int, job: Job) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        print(f"{job}: another process trains it; waiting for that one", flush=True)
        fcntl.lockf(file, fcntl.LOCK_EX, 1, place)


def train_all(
    jobs: list[Job], *, train_set: Path, recipe: Recipe, settings: Settings, checkpoints: Path, n_workers: int
) -> list[Path]:
    """Return the model files of all jobs, in their order, in the folder `checkpoints`.

    `n_workers` processes train the jobs that are not finished. The file of a job is named by its `job_key`. `settings`
    are the keywords `log_every`, `checkpoint_every`, `hardware` and `n_decoders` of `train`. Raises ValueError, before
    any training, if a job wants more images than there are.
    """
    import_module("torch._dynamo")  # the first optimiser does, in 1.6 s: once here instead of in every worker
    images = loading.load(train_set)
    most = max((job.n_train for job in jobs), default=0)
    if most > len(images):
        raise ValueError(
            f"expected n_train and sizes in params.yaml of at most {len(images)}, the images in {train_set}, got {most}"
        )
    code = training_code(recipe, images)  # once, for all workers
    work = partial(train_one, train_set=train_set, recipe=recipe, settings=settings, checkpoints=checkpoints, code=code)
    units = [n_steps(recipe, job.n_train) for job in jobs]
    begin = time.monotonic()
    results = parallel(work, jobs, units=units, unit="steps", n_workers=n_workers)
    n_new = sum(is_new for _, is_new in results)
    print(f"{n_new} jobs trained in {time.monotonic() - begin:.0f} s, {len(jobs) - n_new} finished already", flush=True)
    return [file for file, _ in results]


def training_log(model_file: Path) -> list[dict]:
    """Return the learning curve in a model file that `train_one` wrote."""
    return read_tensors(model_file)[1]["log"]
