"""Run independent work on the cores of this machine, in a pool of processes with one thread each.

Results depend neither on the number of processes nor on their order.
"""

import ctypes
import multiprocessing as mp
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import TypeVar

from tqdm import tqdm

from robacc.machine import end_with_parent, is_of_memory

LESS = "set ROBACC_WORKERS lower, or a smaller batch_size or n_images in params.yaml, and run again"
PUT_DOWN = (None, 0, -signal.SIGTERM)  # exit codes of processes that the pool itself ends, when one was killed

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[int], None]

# Of each item of `parallel`: how many units of it are done, and the id of the process that works on it, or 0. Memory of
# all processes, without a lock: a process that is killed while it holds one would block the others for ever.
Shared = MutableSequence[int]
_done: Shared = []
_busy: Shared = []


def _start_worker(done: Shared, busy: Shared) -> None:
    global _done, _busy
    _done, _busy = done, busy
    end_with_parent()  # an orphan would run beside the successor of its stage
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


def _pool(n_processes: int, done: Shared, busy: Shared) -> ProcessPoolExecutor:
    # A forked process shares torch and other modules with its parent. Outside Linux, fork is not safe with threads.
    context = mp.get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(n_processes, context, initializer=_start_worker, initargs=(done, busy))


def _timed(work: Callable[[T, OnProgress], R], item: T, index: int) -> tuple[R, float]:
    begin = time.monotonic()

    def advance(units: int) -> None:
        _done[index] += units

    _busy[index] = os.getpid()
    try:
        result = work(item, advance)
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        first = next(iter(str(error).splitlines()), "")
        raise ChildProcessError(f"expected memory for {item}, got {first or 'none'}; {LESS}") from error
    _busy[index] = 0
    return result, time.monotonic() - begin


def parallel(
    work: Callable[[T, OnProgress], R], items: Sequence[T], *, units: Sequence[int], unit: str, n_workers: int
) -> list[R]:
    """Return [work(item, on_progress) for item in items], computed by `n_workers` processes.

    The longest items start first. `units` are their amounts of work, which `on_progress` counts. All items start at
    once if a second round would have idle workers. Three items on two cores are an example. A terminal shows a progress
    bar. Any other output gets a line for each item. An error ends the whole call. Raises ChildProcessError, which names
    the item, if a process is killed or finds no memory.
    """
    n_processes = len(items) if 1 < n_workers < len(items) < 2 * n_workers else n_workers
    order = sorted(range(len(items)), key=lambda i: -units[i])
    results: dict[int, R] = {}
    done, busy = (mp.RawArray("q", max(1, len(items))) for _ in range(2))
    others, processes = set(mp.active_children()), set[BaseProcess]()
    try:
        with _pool(n_processes, done, busy) as pool, _bar(sum(units), unit) as bar:
            pending = {pool.submit(_timed, work, items[i], i): i for i in order}
            processes = set(mp.active_children()) - others
            begin = time.monotonic()
            try:
                while pending:
                    finished, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        index = pending.pop(future)
                        results[index], seconds = future.result()
                        if bar.disable:
                            _report(items[index], len(results), len(items), seconds, begin, sum(done), sum(units), unit)
                    bar.update(sum(done) - bar.n)
            except BrokenProcessPool:
                raise  # without a shutdown, the exit waits until all processes have ended with known exit codes
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool:
        killed = {process.pid for process in processes if process.exitcode not in PUT_DOWN}  # empty if it died at once
        at_work = [item for item, pid in zip(items, busy, strict=False) if pid and (pid in killed or not killed)]
        raise ChildProcessError(_killed(at_work)) from None
    return [results[i] for i in range(len(items))]


def _bar(total: int, unit: str) -> tqdm:
    return tqdm(total=total, unit=f" {unit}", disable=not sys.stderr.isatty())


def _killed(at_work: Iterable[object] = ()) -> str:
    """Return the line about a pool of which a process was killed, during one of the items `at_work`."""
    during = " or ".join(map(str, at_work))
    return (
        f"a process was killed{during and f' during {during}'}, as where memory runs out; finished work is kept; {LESS}"
    )


def _report(item: object, n_done: int, n: int, seconds: float, begin: float, done: int, total: int, unit: str) -> None:
    rate = done / (time.monotonic() - begin)
    left = (total - done) / rate if rate else 0.0
    print(f"[{n_done}/{n}] {item}: {seconds:.0f} s; all: {rate:.1f} {unit}/s, {left:.0f} s left", flush=True)


def stream(work: Callable[[T], R], items: Iterable[T], *, n_workers: int) -> Iterator[R]:
    """Yield work(item) for each of `items`, in their order, computed by `n_workers` processes.

    `items` are read only when needed. At most three items for each worker are in memory.
    """
    with _pool(n_workers, [], []) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 3 * n_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise ChildProcessError(_killed()) from None
