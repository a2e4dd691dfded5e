"""Run independent work on the cores of this machine, in a pool of processes with one thread each.

Results depend neither on the number of processes nor on their order.
"""

import ctypes
import multiprocessing as mp
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[int], None]

# The progress in units of work. The workers inherit it from the parent.
_done = mp.Value("q", 0)
_parent = 0


def _start_worker(counter, parent: int) -> None:  # noqa: ANN001 (the type of mp.Value is private)
    global _done, _parent
    _done, _parent = counter, parent
    if torch := sys.modules.get("torch"):  # not imported here, as some work needs no torch
        torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the allocator keep freed memory.

    Returning memory to the system and asking for it again costs a tenth of a training step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def _pool(n_processes: int) -> ProcessPoolExecutor:
    # A forked process shares torch and other modules with its parent. Outside Linux, fork is not safe with threads.
    context = mp.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(n_processes, context, initializer=_start_worker, initargs=(_done, os.getpid()))


def _advance(units: int) -> None:
    with _done.get_lock():
        _done.value += units
    if os.getppid() != _parent:
        os._exit(1)  # the stage was killed; an orphan would run beside its successor


def _timed(work: Callable[[T, OnProgress], R], item: T) -> tuple[R, float]:
    begin = time.monotonic()
    return work(item, _advance), time.monotonic() - begin


def parallel(
    work: Callable[[T, OnProgress], R], items: Sequence[T], *, units: Sequence[int], unit: str, n_workers: int
) -> list[R]:
    """Return [work(item, on_progress) for item in items], computed by `n_workers` processes.

    The longest items start first. `units` are their amounts of work, which `on_progress` counts. All items start at
    once if a second round would have idle workers. Three items on two cores are an example. A terminal shows a progress
    bar. Any other output gets a line for each item. An error ends the whole call.
    """
    n_processes = len(items) if 1 < n_workers < len(items) < 2 * n_workers else n_workers
    order = sorted(range(len(items)), key=lambda i: -units[i])
    results: dict[int, R] = {}
    _done.value = 0
    with _pool(n_processes) as pool, tqdm(total=sum(units), unit=f" {unit}", disable=not sys.stderr.isatty()) as bar:
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


def stream(work: Callable[[T], R], items: Iterable[T], *, n_workers: int) -> Iterator[R]:
    """Yield work(item) for each of `items`, in their order, computed by `n_workers` processes.

    `items` are read only when needed. At most three items for each worker are in memory.
    """
    with _pool(n_workers) as pool:
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 3 * n_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
