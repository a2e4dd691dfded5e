"""Set up .venv from requirements.lock, whole and once for all who ask; the Makefile calls this before its targets.

The user's own Python runs it before anything is installed. It therefore imports the standard library alone.
"""

from __future__ import annotations

import argparse
import fcntl
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
READY = VENV / "ready"
LOCK = Path(".dvc/tmp/environment")


def part(text: str) -> tuple[int, int]:
    """Return 2 and 3 for "2/3", the second of three parts."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"expected a part and the number of parts, as in PART=2/3, got PART={text}")
    return int(number), int(of)


def install(venv: Path, *what: str) -> list[str | Path]:
    """Return the command that installs into `venv`, wherever the user's pip.conf and PIP_* want it.

    Their mirrors and certificates stay.
    """
    here = ["--python=", "--no-user", "--target=", f"--prefix={venv.resolve()}", "--root=/"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    return [venv / "bin" / "python", "-I", "-m", "pip", "install", *quiet, *here, *what]


def described() -> str:
    """Return what .venv/ready says of an environment that is up to date: where it was made, and of what."""
    return f"# {VENV.resolve()}\n{Path('requirements.lock').read_text(encoding='utf-8')}"


def usable() -> bool:
    """Return whether .venv is where it was made, was not left half made, and has a Python that runs and finds pip."""
    made_in = READY.read_text(encoding="utf-8").partition("\n")[0] if READY.exists() else ""
    if made_in not in ("", f"# {VENV.resolve()}") or (LOCK.exists() and LOCK.read_text(encoding="utf-8")):
        return False
    finds_pip = "import sys, importlib.util; sys.exit(importlib.util.find_spec('pip') is None)"
    try:
        return subprocess.run([PYTHON, "-I", "-c", finds_pip], stderr=subprocess.DEVNULL, check=False).returncode == 0
    except OSError:
        return False


def up_to_date() -> bool:
    """Return whether there is nothing to do."""
    return READY.exists() and READY.read_text(encoding="utf-8") == described() and usable()


def set_up() -> None:
    """Make .venv, or install what changed in requirements.lock; wait for another process that does so."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another make, which sets up .venv", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if up_to_date():
            return
        keep = usable()
        if VENV.is_symlink() and not keep:
            sys.exit(f".venv is a link to {VENV.resolve()}, no environment of this project; remove the link")
        if sys.version_info < (3, 11):  # noqa: UP036
            got = sys.version.split()[0]
            sys.exit(f"expected Python 3.11 or newer, got {got}; run make PYTHON=python3.11")
        READY.unlink(missing_ok=True)
        # Whoever is killed leaves this word. The children hold the lock too: pip can outlive its parent.
        print("unfinished", file=lock, flush=True)
        steps: list[list[str | Path]] = [install(VENV, "-r", "requirements.lock")]
        if not keep:
            base = getattr(sys, "_base_executable", sys.executable)  # this may be the Python of the .venv to replace
            steps.insert(0, [base, "-I", "-m", "venv", "--clear", VENV])
        for step in steps:
            try:
                subprocess.run(step, pass_fds=[lock.fileno()], check=True)
            except subprocess.CalledProcessError as error:
                if keep and error.returncode > 0:  # pip took back what it could not finish
                    lock.truncate(0)
                raise
        READY.write_text(described(), encoding="utf-8")
        lock.truncate(0)


def do_without_git() -> None:
    """Tell DVC that this folder is no git clone, as a downloaded archive is none."""
    path, config = Path(".dvc/config.local"), RawConfigParser()
    config.read(path, encoding="utf-8")
    if not config.has_option("core", "no_scm"):
        config.read_dict({"core": {"no_scm": "true"}})
        with path.open("w", encoding="utf-8") as file:
            config.write(file)


def main() -> None:
    """Check the command line before any installation; then set up what is missing."""
    arguments = argparse.ArgumentParser(prog="make", usage=argparse.SUPPRESS, description=__doc__)
    arguments.add_argument("--part", type=part)
    arguments.add_argument("--needs-git", action="store_true")
    arguments.add_argument("--also", help="requirements that are installed without their dependencies")
    args = arguments.parse_args()
    in_git = any((folder / ".git").exists() for folder in (Path.cwd(), *Path.cwd().parents))
    if args.needs_git and not in_git:
        arguments.error("the tests need git's list of files, and this folder is no clone; run git init && git add -A")
    if not up_to_date():
        set_up()
    if args.also:
        subprocess.run(install(VENV, "--no-deps", "-r", args.also), check=True)
    if not in_git:
        do_without_git()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit("make: interrupted; the next make sets up .venv anew")
