"""Run `dvc repro` and measure each stage: `python -m benchmarks.stages`, in a fresh clone, with no other work.

Writes benchmarks/stages.csv. The seconds of a stage go from its start to that of the next, so DVC's own time counts.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from robacc.files import write_csv
from robacc.machine import usable_cores

FILE = Path("benchmarks/stages.csv")


def measured(lines: Iterable[str], clock: Callable[[], float] = time.monotonic) -> list[dict]:
    """Return a row for each stage that is run according to `lines`, the output of `dvc repro` as it comes."""
    begun = [("", clock())]
    for line in lines:
        if started := re.match(r"Running stage '(.+)':", line):
            begun.append((started[1], clock()))
    begun.append(("", clock()))
    return [{"stage": stage, "seconds": round(end - begin, 1)} for (stage, begin), (_, end) in pairwise(begun[1:])]


def main() -> None:
    """Run `dvc repro` and write the table. A failure ends it with DVC's exit code, and writes nothing."""
    with subprocess.Popen(["dvc", "repro"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        rows = measured(line for line in process.stdout if not print(line, end="", flush=True))
    if process.returncode:
        sys.exit(process.returncode)
    total = {"stage": "all", "seconds": round(sum(row["seconds"] for row in rows), 1)}
    write_csv([{**row, "cores": usable_cores()} for row in [*rows, total]], FILE)


if __name__ == "__main__":
    main()
