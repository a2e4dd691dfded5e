"""Kill training at random moments, and compare what comes out in the end with training that nobody killed.

    python -m benchmarks.kills --n 100

Four small jobs on random images are trained by two processes of a stage, which a stand-in for DVC started through a
shell that stays. A random moment after that, one victim gets SIGKILL. At once the same is started anew, beside what
may still run, until all jobs are finished. Then the model files must be byte for byte those of a training in one
go, no process may be left, and a new round begins. Each row of the table is a kill.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from robacc.balls import STANDARD, Ball
from robacc.files import write_csv
from robacc.images import in_memory
from robacc.machine import end_with_parent
from robacc.training.jobs import Job
from robacc.training.store import train_all
from tests.recipes_made_up import random_images, tiny

# And the name of its process.
VICTIMS = {"everything": "", "DVC alone": "dvc", "the shell alone": "sh", "the stage alone": "stage", "one worker": ""}
JOBS = [
    Job(STANDARD, 40, 0),
    Job(Ball("linf", 0.1), 40, 1),
    Job(Ball("l2", 0.5), 40, 2),
    Job(Ball("l2", 1.0), 40, 3, 0.5),
]
RECIPE = tiny(steps=[[1, 40]])
SETTINGS = {"log_every": 2, "checkpoint_every": 2}


def stage(folder: Path) -> None:
    """Train all jobs, as the stages do."""
    end_with_parent()
    common = {"train_set": folder.parent / "train.safetensors", "recipe": RECIPE, "settings": SETTINGS}
    train_all(JOBS, **common, checkpoints=folder, n_workers=2)


def start(folder: Path, log: Path) -> int:
    """Start DVC's stand-in, a session of its own with a shell's and a stage's process; return its id.

    All are forks of this process, which has imported PyTorch once.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1), os.dup2(out, 2)
    for name in ("dvc", "sh", "stage"):
        Path("/proc/self/comm").write_text(name, encoding="utf-8")
        if name == "stage":
            code = 1
            try:
                stage(folder)
                code = 0
            except OSError as error:
                print(f"stage: {error}", flush=True)
            finally:
                os._exit(code)
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 255)
    raise AssertionError("the stage does not return")


def members(session: int) -> dict[int, tuple[int, str]]:
    """Return parent and name of each living process of a session, by its id."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has just ended
            continue
        name, rest = text.split("(", 1)[1].rsplit(")", 1)
        state, parent, _, its_session = rest.split()[:4]
        if int(its_session) == session and state not in "ZX":
            found[int(file.parent.name)] = int(parent), name
    return found


def kill(session: int, victim: str, choose: random.Random) -> bool:
    """Kill the victim; return whether there was one."""
    living = members(session)
    by_name = {name: pid for pid, (_, name) in sorted(living.items(), reverse=True)}
    workers = [pid for pid, (parent, _) in sorted(living.items()) if parent == by_name.get("stage")]
    if victim == "everything":
        for pid in living:
            os.kill(pid, signal.SIGSTOP)  # so that nobody reacts to the death of another
        chosen = list(living)
    elif victim == "one worker":
        chosen = [choose.choice(workers)] if workers else []
    else:
        chosen = [by_name[VICTIMS[victim]]] if VICTIMS[victim] in by_name else []
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    return bool(chosen)


def ended(session: int) -> float:
    """Wait until no process of the session lives; return after how many seconds that was."""
    begin = time.monotonic()
    while members(session):
        time.sleep(0.02)
    return time.monotonic() - begin


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.model")}


def main(n: int, seed: int, out: Path) -> None:
    """Write a row for each of `n` kills."""
    choose, rows = random.Random(seed), []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        images = random_images(40)
        in_memory.save(images.x, images.y, home / "train.safetensors")
        begin = time.monotonic()
        os.waitpid(start(home / "whole", home / "log"), 0)
        whole, duration = contents(home / "whole"), time.monotonic() - begin
        assert len(whole) == len(JOBS), (home / "log").read_text(encoding="utf-8")
        number, sessions = 0, []
        while len(rows) < n:
            folder, log = home / f"round{number}", home / f"log{number}"
            session, begin = start(folder, log), time.monotonic()
            sessions.append(session)
            victim, after = choose.choice(list(VICTIMS)), choose.uniform(0, duration / 2)
            while time.monotonic() - begin < after and not os.waitpid(session, os.WNOHANG)[0]:
                time.sleep(0.01)
            if members(session) and kill(session, victim, choose):
                kept = {kind: len(list(folder.glob(f"*.{kind}"))) for kind in ("model", "running")}
                row = {"round": number, "killed": victim, "after_s": round(time.monotonic() - begin, 1)}
                rows.append({**row, "finished": kept["model"], "checkpoints": kept["running"]})
                print(rows[-1], flush=True)
                if victim == "one worker":
                    ended(session)  # by itself, with a line
            if len(contents(folder)) == len(JOBS) or len(rows) == n:
                os.waitpid(last := start(folder, log), 0)
                for each in [*sessions, last]:
                    ended(each)
                identical = contents(folder) == whole
                print(f"round {number}: {'identical' if identical else 'DIFFERENT'}", flush=True)
                rows = [{**row, "models_identical": identical} if row["round"] == number else row for row in rows]
                if rows:
                    write_csv(rows, out)  # after each round, so that nothing is lost
                number, sessions = number + 1, []


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--n", type=int, default=100, help="number of kills")
    arguments.add_argument("--seed", type=int, default=0, help="of victims and moments")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/kills.csv"))
    if sys.platform != "linux":
        sys.exit("kills: expected Linux, whose /proc names the processes")
    args = arguments.parse_args()
    main(args.n, args.seed, args.out)
