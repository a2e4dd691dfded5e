"""Work on many processes: the same results whatever their number, in order, and no more in memory than is needed."""

import itertools
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from robacc.parallel import OnProgress, parallel, stream


class Item(int):
    """A number that says, where a line names it, how many processes there are."""

    def __str__(self) -> str:
        return f"{len(mp.active_children())} processes"


def square(item: int, on_progress: OnProgress) -> tuple[int, int]:
    on_progress(item)
    return item * item, torch.get_num_threads()


def fail_at_three(item: int, *_: OnProgress) -> int:
    if item == 3:
        raise ValueError("item 3 is bad")
    return item


def killed_at_three(item: int, *_: OnProgress) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def out_of_memory_at_three(item: int, *_: OnProgress) -> int:
    if item == 3:
        raise MemoryError
    return item


def allocates_at_three(item: int, *_: OnProgress) -> int:
    if item == 3:
        torch.empty(10**15)
    return item


def remember(item: int, _: OnProgress, *, folder: Path) -> None:
    with (folder / "order").open("a") as file:
        file.write(f"{item}\n")


def slow_first(item: int) -> tuple[int, int]:
    time.sleep(0.3 * (item == 0))
    return item, torch.get_num_threads()


# ---- A list -------------------------------------------------------------------------------------------------------


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
def test_all_items_start_at_once_where_a_second_round_would_leave_workers_idle(n_items, n_workers, expected, capsys):
    items = [Item(index) for index in range(1, n_items + 1)]
    parallel(square, items, units=items, unit="units", n_workers=n_workers)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("] ")[1].split(":")[0] for line in lines] == [f"{expected} processes"] * n_items


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_ends_the_call_with_that_error(n_workers):
    with pytest.raises(ValueError, match="item 3 is bad"):
        parallel(fail_at_three, [1, 2, 3, 4], units=[1] * 4, unit="units", n_workers=n_workers)


# fault: a worker killed by the kernel, or a quota of memory
@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_killed_process_is_one_line_with_its_item_and_what_to_lower(n_workers, monkeypatch):
    def waitpid_slow_in_the_pool(*args: int) -> tuple[int, int]:
        found = waitpid(*args)
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.5)  # the process is reaped, and its exit code is not noted yet
        return found

    waitpid = os.waitpid
    monkeypatch.setattr(os, "waitpid", waitpid_slow_in_the_pool)
    items, others = [4, 3, 2, 1], set(mp.active_children())  # of calls that an error ended, which do not wait for them
    with pytest.raises(ChildProcessError, match=r"^a process was killed during 3, .* ROBACC_WORKERS lower,"):
        parallel(killed_at_three, items, units=items, unit="units", n_workers=n_workers)
    assert set(mp.active_children()) <= others


@pytest.mark.parametrize("work", [out_of_memory_at_three, allocates_at_three], ids=["Python", "PyTorch"])
def test_an_item_without_memory_is_one_line_with_its_name_and_what_to_lower(work):
    with pytest.raises(ChildProcessError, match=r"^expected memory for 3, got .*; set ROBACC_WORKERS lower,") as caught:
        parallel(work, [4, 3, 2, 1], units=[1] * 4, unit="units", n_workers=2)
    assert "\n" not in str(caught.value)


STAGE = """
import time
from pathlib import Path
from robacc.parallel import parallel

def work(item, on_progress):
    if item == 1:
        Path("works").touch()
        time.sleep(600)

parallel(work, [1, 0], units=[2, 1], unit="units", n_workers=2)
"""


# fault: workers outlive a killed stage, idle ones for ever
def test_all_processes_end_when_the_stage_is_killed(tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "stage.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as stage:
        while not (tmp_path / "works").exists():  # the other worker soon has nothing to do
            assert stage.poll() is None
            time.sleep(0.05)
        stage.kill()
        stage.stdout.read()  # to its end: nobody is left who could write


def test_each_finished_item_is_a_line_where_there_is_no_terminal(capsys):
    parallel(square, [2, 3], units=[2, 3], unit="steps", n_workers=1)
    lines = capsys.readouterr().out.splitlines()
    counted, items = zip(*(line.split(":")[0].split() for line in lines), strict=True)
    assert counted == ("[1/2]", "[2/2]")
    assert sorted(items) == ["2", "3"]  # items that end at nearly the same time come in any order
    assert all("steps/s" in line for line in lines)


# ---- A stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("n", [0, 1, 20])
def test_a_stream_keeps_the_order_whatever_takes_longest(n, n_workers):
    # trap 39
    assert list(stream(slow_first, iter(range(n)), n_workers=n_workers)) == [(item, 1) for item in range(n)]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_stream_asks_for_items_as_they_are_needed(n_workers):
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for item in range(4, 500):
            asked.append(item)
            yield item

    results = stream(fail_at_three, numbers(), n_workers=n_workers)
    assert asked == []
    for n_taken in range(1, 6):
        next(results)
        assert n_workers <= len(asked) - n_taken <= 3 * n_workers
    results.close()
    assert mp.active_children() == []


def test_a_stream_whose_process_is_killed_ends_in_one_line():
    with pytest.raises(
        ChildProcessError, match=r"^a process was killed, as where memory runs out; .* ROBACC_WORKERS lower"
    ):
        list(stream(killed_at_three, range(9), n_workers=2))
    assert mp.active_children() == []


def test_an_error_ends_the_stream_with_that_error():
    items = iter(range(500))
    results = stream(fail_at_three, items, n_workers=2)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="item 3 is bad"):
        next(results)
    assert next(items) <= 3 + 3 * 2 + 1
    assert list(results) == []
    assert mp.active_children() == []
