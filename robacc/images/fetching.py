"""Get the raw files of a data set from the first source that works, and check them."""

import gzip
import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

TIMEOUT = 60  # seconds without a response, for each request

T = TypeVar("T")
Source = Callable[[Path], None]  # writes the raw files into a folder, or raises


def check(folder: Path, sha256: dict[str, str]) -> None:
    """Raise FileNotFoundError or ValueError unless `folder` has the files with these hashes.

    A file with another hash is deleted, so that nothing uses it later.
    """
    for name, expected in sha256.items():
        file = folder / name
        if not file.exists():
            raise FileNotFoundError(f"no file {name}")
        actual = hashlib.sha256(file.read_bytes()).hexdigest()
        if actual != expected:
            file.unlink()
            raise ValueError(f"{name} has SHA-256 {actual[:12]}..., expected {expected[:12]}...; refused and removed")


def from_mirror(mirror: str, names: Iterable[str]) -> Source:
    """Return a source that copies each named file from a folder or a URL.

    A file may be plain or compressed with the suffix .gz.
    """

    def get(folder: Path) -> None:
        base = mirror.rstrip("/") if "://" in mirror else Path(mirror).expanduser().resolve().as_uri()
        for name in names:
            try:
                content = _read_url(f"{base}/{name}")
            except OSError:
                if name.endswith(".gz"):
                    raise
                content = gzip.decompress(_read_url(f"{base}/{name}.gz"))
            (folder / name).write_bytes(content)

    return get


def _read_url(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        return answer.read()


def first_that_works(
    sources: Mapping[str, Callable[[], T]], advice: str, *, report: Callable[[str], None] = lambda text: None
) -> tuple[str, T]:
    """Return the name and the result of the first source that raises no error.

    The sources are tried in order. `report` gets the errors of those that failed before it. If all fail, an OSError
    gives every error, and `advice`.
    """
    failures = []
    for name, get in sources.items():
        try:
            result = get()
        except Exception as error:  # noqa: BLE001 (after any error the next source is tried)
            lines = [line for line in str(error).splitlines() if line] or [type(error).__name__]
            failures.append(f"  {name}: {lines[0]}")
            continue
        if failures:
            report("tried in vain:\n" + "\n".join(failures))
        return name, result
    raise OSError("no source of the data works; tried\n" + "\n".join(failures) + f"\n{advice}")


def attempts(folder: Path, sources: dict[str, Source], sha256: dict[str, str]) -> Mapping[str, Callable[[], None]]:
    """Return functions for `first_that_works` that put the files with these hashes into `folder`.

    The first function checks the files already in `folder`. Each other one gets files from a source into a temporary
    folder. It moves them to `folder` only if they pass the check.
    """

    def through(get: Source) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            get(Path(temporary))
            check(Path(temporary), sha256)
            for file in sha256:
                os.replace(Path(temporary) / file, folder / file)

    already_there = {f"files in {folder}": partial(check, folder, sha256)}
    return already_there | {name: partial(through, get) for name, get in sources.items()}


def fetch(folder: Path, sources: dict[str, Source], sha256: dict[str, str]) -> str:
    """Put the files with these hashes into `folder`; return the name of their source.

    Raises OSError if no source works.
    """
    advice = f"Put {', '.join(sha256)} into {folder} by hand, or set ROBACC_MIRROR to a folder or URL that holds them, "
    return first_that_works(attempts(folder, sources, sha256), advice + "and run again.")[0]
