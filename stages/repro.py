"""Run `dvc repro` alone in this checkout, after a check of params.yaml; the Makefile's targets call this."""

import argparse
import fcntl
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from robacc import params
from stages import cli

PARAMS = Path("params.yaml")
LOCK = Path(".dvc/tmp/repro")


class Checkout:
    """The checkout, held by its lock."""

    def __init__(self, lock: int) -> None:
        """Keep the lock's file descriptor."""
        self._lock = lock

    def dvc(self, *words: str) -> None:
        """Run DVC, and end as it does if it fails.

        DVC hears Ctrl-C itself and ends in order, so this process waits for it. It holds the lock too, in case this
        process is killed.
        """
        running: subprocess.Popen[bytes] | None = None

        def pass_on(number: int, _: object) -> None:
            if running is None:
                raise SystemExit(128 + number)
            running.send_signal(number)

        signal.signal(signal.SIGINT, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        running = subprocess.Popen(["dvc", *words], pass_fds=[self._lock])
        if code := running.wait():
            raise SystemExit(code)


@contextmanager
def alone() -> Iterator[Checkout]:
    """Hold this checkout against a second run of its pipeline.

    Raises BlockingIOError, with the process that holds it, if there is one.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            other = lock.read().strip()
            raise BlockingIOError(
                f"{other} runs the pipeline in this checkout; wait for it, or use a second clone"
            ) from None
        except OSError:
            pass  # a file system without such locks: DVC's own has to do
        lock.truncate(0)
        print(f"process {os.getpid()} on {socket.gethostname()}", file=lock, flush=True)
        yield Checkout(lock.fileno())


def must_have_remote(*, to_write: bool) -> None:
    """Raise OSError, with what to do, if the DVC remote cannot be used.

    To find out, what `make share` left there is looked for, or a file is written and removed.
    """
    from dvc.config import NoRemoteError
    from dvc.repo import Repo

    place = "DVC's remote"
    try:
        with Repo() as repo:
            remote = repo.cloud.get_remote()
        fs, folder = remote.fs, remote.path
        place += f" {fs.unstrip_protocol(folder)}"
        if to_write:
            fs.makedirs(folder, exist_ok=True)
            file = fs.join(folder, f"tried-by-{socket.gethostname()}-{os.getpid()}")
            fs.pipe_file(file, b"robacc")
            fs.remove(file)
        else:
            fs.info(folder)
    except NoRemoteError:
        raise OSError("expected a DVC remote, found none; run `dvc remote add -d shared <a folder or URL>`") from None
    except ImportError as error:
        package = re.search(r"dvc-\w+", str(error))
        install = f"`.venv/bin/pip install -c requirements-remotes.lock {package[0] if package else ''}`"
        raise OSError(f"{place}: {error}; run {install}") from None
    except Exception as error:  # each kind of remote has errors of its own
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise OSError(f"{place} cannot be used; {why}") from error


def with_values(text: str, values: list[str]) -> str:
    """Return the text of params.yaml with `values`, each as in run.cifar10=[cifar10]; comments stay."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    document = yaml.load(text)
    for value in values:
        key, _, new = value.partition("=")
        *sections, last = key.split(".")
        section = document
        for name in sections:
            section = section[name]
        section[last] = yaml.load(new)
    changed = StringIO()
    yaml.dump(document, changed)
    return changed.getvalue()


@contextmanager
def contents(after: dict[Path, str]) -> Iterator[None]:
    """Write these files, and check params.yaml. They stay after success; after anything else they are as they were.

    What was edited in a file meanwhile stays in any case.
    """
    from robacc import files

    before = {path: path.read_bytes().decode() for path in after}
    changed = [path for path in after if after[path] != before[path]]
    try:
        for path in changed:
            files.write_text(after[path], path)
        if changed:
            params.load()
        yield
    except BaseException:
        for path in changed:
            if path.read_bytes() == after[path].encode():
                files.write_text(before[path], path)
        raise


@contextmanager
def parameters(values: list[str]) -> Iterator[None]:
    """Set values in params.yaml, as `contents` does."""
    params.load()
    text = PARAMS.read_bytes().decode()
    with contents({PARAMS: with_values(text, values) if values else text}):
        yield


def main(args: argparse.Namespace) -> None:
    """Run the targets, or all, and say where the report is."""
    with alone() as checkout:
        if args.pull:
            must_have_remote(to_write=False)
        with parameters(args.set):
            options = [f"--{name}" for name in ("pull", "quiet") if getattr(args, name)]
            checkout.dvc("repro", *options, *args.targets)
    if args.targets in ([], ["report"]):
        print(f"The report: {Path('reports/index.html').resolve()}")


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("targets", nargs="*")
    arguments.add_argument("--set", action="append", default=[], metavar="run.cifar10=[cifar10]")
    arguments.add_argument("--pull", action="store_true", help="take from the DVC remote what it has")
    arguments.add_argument("--quiet", action="store_true")
    cli.run(main, arguments)
