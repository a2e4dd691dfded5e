"""Many independent jobs on the cores of this machine, each with one thread, finished ones kept."""

import ctypes
import hashlib
import json
import multiprocessing as mp
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from robacc import data, models
from robacc.files import read_tensors
from robacc.provenance import code_hash
from robacc.training import Job, Recipe, train
from robacc.world import ALONE, World

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[int], None]
Settings = dict[str, Any]  # of params.yaml's section `training`, keywords of `train`

# Set in the parent before the workers start, inherited by them: progress in units of work.
_done = mp.Value("q", 0)


def _start_worker(counter, parent: int) -> None:  # noqa: ANN001 (the type of mp.Value is private)
    global _done, _parent
    _done, _parent = counter, parent
    torch.set_num_threads(1)
    keep_freed_memory()


_parent = 0


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed: returned to the system and asked for again, it costs a tenth of a step."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def _advance(units: int) -> None:
    with _done.get_lock():
        _done.value += units
    if os.getppid() != _parent:
        os._exit(1)  # the stage was killed: do not go on as an orphan beside its successor


def _timed(work: Callable[[T, OnProgress], R], item: T) -> tuple[R, float]:
    begin = time.monotonic()
    return work(item, _advance), time.monotonic() - begin


def parallel(
    work: Callable[[T, OnProgress], R], items: Sequence[T], *, units: Sequence[int], unit: str, n_workers: int
) -> list[R]:
    """Return [work(item, on_progress) for item in items], computed by `n_workers` processes.

    The longest items (by `units`, the amounts of work that `on_progress` counts) start first. Each
    worker has one thread whatever their number, so results do not depend on it. Where a second round
    would leave workers idle, as with three items on two cores, all items start at once and share the
    cores. Shows a progress bar, or a line an item where the output is not a terminal. An error ends
    the whole call.
    """
    n_processes = len(items) if 1 < n_workers < len(items) < 2 * n_workers else n_workers
    order = sorted(range(len(items)), key=lambda i: -units[i])
    results: dict[int, R] = {}
    _done.value = 0
    # fork shares torch and the parent's modules; elsewhere (macOS) it is not safe with threads.
    context = mp.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(n_processes, context, initializer=_start_worker, initargs=(_done, os.getpid()))
    with pool, tqdm(total=sum(units), unit=f" {unit}", disable=not sys.stderr.isatty()) as bar:
        pending = {pool.submit(_timed, work, items[i]): i for i in order}
        begin = time.monotonic()
        try:
            while pending:
                finished, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    index = pending.pop(future)
                    results[index], seconds = future.result()
                    if bar.disable:
                        _report(items[index], len(results), len(items), seconds, begin, sum(units), unit)
                bar.update(_done.value - bar.n)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[i] for i in range(len(items))]


def _report(item: object, n_done: int, n: int, seconds: float, begin: float, total: int, unit: str) -> None:
    elapsed = time.monotonic() - begin
    rate = _done.value / elapsed
    left = (total - _done.value) / rate if rate else 0.0
    print(f"[{n_done}/{n}] {item}: {seconds:.0f} s; all: {rate:.1f} {unit}/s, {left:.0f} s left", flush=True)


def job_key(job: Job, recipe: Recipe, data_sha256: str, log_every: int, hardware: str = "cpu") -> str:
    """Return the name of a job's results: its full specification, its data, the code it runs and PyTorch's version.

    The setting `hardware` is in it, not what "auto" chose, nor the number of processes: a stage on a laptop
    finds what a machine with GPUs trained. The model file says what that was.
    """
    training = asdict(recipe) | {"steps": recipe.n_steps(job.n_train)}
    training |= {"log_every": log_every, "hardware": hardware}
    code = {"code": code_hash("robacc.training", *models.modules_of(recipe.arch)), "torch": torch.__version__}
    spec = {"job": asdict(job), "recipe": training, "data": data_sha256, **code}
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:24]


def train_one(
    job: Job,
    on_progress: OnProgress,
    *,
    train_set: Path,
    recipe: Recipe,
    settings: Settings,
    checkpoints: Path,
    world: World = ALONE,
) -> tuple[Path, bool]:
    """Train a job unless it is finished already; return its model file, log in its metadata, and whether it is new.

    Where `world` is several processes, each calls this; the first alone looks for files and writes them.
    Raises ValueError if their data, code or parameters differ.
    """
    images = data.load(train_set)
    key = job_key(job, recipe, images.sha256, settings["log_every"], settings.get("hardware", "cpu"))
    world.check_same(key, "the job's key, of data, code, parameters and PyTorch's version,")
    finished, running = checkpoints / f"{key}.model", checkpoints / f"{key}.running"
    if world.agree(finished.exists()):
        on_progress(recipe.n_steps(job.n_train))
        return finished, False
    progress = train(job, images, recipe, checkpoint=running, on_step=on_progress, world=world, **settings)
    if world.rank == 0:
        subset = data.subset_hash(data.nested_subset(images.y, job.n_train, seed=job.seed))
        spec = {"arch": recipe.arch, "mean": recipe.mean, "std": recipe.std, "n_classes": recipe.n_classes}
        spec |= {"job": asdict(job), "data": images.sha256, "subset": subset, "log": progress.log}
        spec |= {"hardware": str(progress.hardware), "processes": world.size}
        models.save(progress.model, finished, spec)
        running.unlink(missing_ok=True)
    world.wait()
    return finished, True


def train_all(
    jobs: list[Job], *, train_set: Path, recipe: Recipe, settings: Settings, checkpoints: Path, n_workers: int
) -> list[Path]:
    """Return the model files of all jobs, in their order, in the folder `checkpoints`.

    A finished job is kept there under its `job_key` and never computed twice; a job that was
    stopped goes on from its last checkpoint. `settings` are the keywords `log_every`,
    `checkpoint_every`, `hardware` and `n_decoders` of `train`.
    """
    data.load(train_set)  # once, for all workers
    work = partial(train_one, train_set=train_set, recipe=recipe, settings=settings, checkpoints=checkpoints)
    units = [recipe.n_steps(job.n_train) for job in jobs]
    begin = time.monotonic()
    results = parallel(work, jobs, units=units, unit="steps", n_workers=n_workers)
    new = [job for job, (_, is_new) in zip(jobs, results, strict=True) if is_new]
    _summarize(new, recipe, time.monotonic() - begin, n_workers)
    return [file for file, _ in results]


def sgemm_flops(size: int = 1024, repeats: int = 5) -> float:
    """Return the float32 operations a second of one core of this machine, by its best matrix product of `repeats`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, seconds = torch.rand(size, size), []
    for _ in range(repeats):
        begin = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begin)
    torch.set_num_threads(threads)
    return 2 * size**3 / min(seconds)


def _summarize(jobs: list[Job], recipe: Recipe, seconds: float, n_workers: int) -> None:
    """Print what was computed and how fast; an image-step is one image through one forward and backward pass."""
    if not jobs:
        print("nothing trained: every job was finished already", flush=True)
        return
    passes = products = 0.0
    for job in jobs:
        images = recipe.n_steps(job.n_train) * recipe.batch_size
        attacked = images * recipe.attack_steps * (1 - job.natural_fraction) * (job.eps > 0)
        passes += images + attacked
        products += 3 * images + 2 * attacked  # forward, input gradient and, in training, the weights' gradient
    flops = 2 * models.MULTIPLY_ADDS[recipe.arch] * products / seconds
    share = flops / (sgemm_flops() * n_workers)
    speed = f"{passes / seconds:,.0f} image-steps/s, {flops / 1e9:.0f} GFLOPS, {share:.0%} of the cores' sgemm"
    print(f"{len(jobs)} jobs on {n_workers} cores in {seconds:.0f} s: {speed}", flush=True)


def training_log(model_file: Path) -> list[dict]:
    """Return the learning curve of a model that `train_one` wrote."""
    return read_tensors(model_file)[1]["log"]
