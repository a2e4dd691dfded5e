"""Ask the operating system: how many cores this process may use, and whether the process that wants its work lives.

Decides no result. Imports no torch.
"""

import math
import multiprocessing as mp
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

SHELLS = ("sh", "bash", "dash", "zsh", "fish", "ksh", "busybox", "ash")
OFTEN = 0.5  # seconds


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use, at least one.

    A quota of CPU time counts, rounded up: a container with half the time of one core has one. `root` is where `proc`
    and `sys` are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """Return the quota of each control group (Linux, version 1 and 2) that this process is in, as a number of cores."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # another system
        return []
    found = []
    for _, controllers, name in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = top / name.strip("/")  # in a container it may be a folder of the host, which is not there
        for folder in (own, *own.parents[: len(own.parts) - len(top.parts)]):
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            try:
                quota, period = " ".join((folder / file).read_text(encoding="utf-8") for file in files).split()
                found += [int(quota) / int(period)] if quota != "max" and int(quota) > 0 else []
            except (OSError, ValueError):  # no quota is possible here
                continue
    return found


def remove_half_written_kernels(folder: Path) -> None:
    """Remove what Numba compiled and kept in `folder`, where a power cut left half of a file.

    Numba does not sync these files, and it cannot read half of one. Without the file it compiles again.
    """
    for file in folder.glob("*.nb[ci]"):
        with suppress(OSError):  # another process may remove it too
            if not file.read_bytes().endswith(b"."):  # the last byte of every pickle
                file.unlink()


def is_of_memory(error: Exception) -> bool:
    """Return whether `error` says that memory ran out: PyTorch has no class of its own for it on a CPU."""
    return isinstance(error, MemoryError) or bool(re.search("allocate memory|out of memory", str(error)))


def end_with_parent(last_words: str = "") -> None:
    """End this process soon after the process that started it has ended, with `last_words` on standard error.

    A shell in between does not count: DVC starts one for each stage, and it would outlive DVC.
    """
    origin = mp.parent_process()  # of a worker, whose parent may have ended already
    begun = (origin.pid, 0) if origin else _started_by()

    def watch() -> None:
        while _started_by() == begun:
            time.sleep(OFTEN)
        with suppress(OSError):  # standard error may be gone as well
            os.write(2, f"{last_words}\n".encode() if last_words else b"")
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _started_by() -> tuple[int, int]:
    """Return the parent's id, and that of its own parent if it is a shell, otherwise 0."""
    parent = os.getppid()
    try:
        # "id (name) state parent ...", and the name may have spaces and brackets
        name, rest = (
            (Path("/") / f"proc/{parent}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .split("(", 1)[1]
            .rsplit(")", 1)
        )
    except OSError:  # it has just ended, or the system has no such file
        return parent, 0
    return parent, int(rest.split()[1]) if name in SHELLS else 0
