"""Get CIFAR-10 from the official archive, or from a user's own tree of images."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robacc.datasets.cifar10 import ARCHIVE, COUNTS, FACTS, SHA256, URL
from robacc.images import folders, in_memory
from robacc.images.fetching import fetch, from_mirror, reason, users_choice

OFFICIAL = "official archive"

Splits = dict[str, tuple[Tensor, Tensor]]  # split -> images, uint8 [N, 3, 32, 32], and labels, int64 [N]


class _ArraysOnly(pickle.Unpickler):
    """An unpickler for lists and NumPy arrays only.

    It raises an error for any other object, and does not execute it.
    """

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> object:
        """Return one of NumPy's three functions that make an array.

        Raises ValueError for anything else.
        """
        if name not in self.ALLOWED or module not in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            raise ValueError(f"{module}.{name}; archive refused")
        return super().find_class(module.replace(".core.", "._core."), name)  # NumPy 2 has this name


def _batch(tar: tarfile.TarFile, name: str) -> tuple[Tensor, Tensor]:
    try:
        member = tar.extractfile(f"cifar-10-batches-py/{name}")
        assert member is not None
        batch = _ArraysOnly(io.BytesIO(member.read()), encoding="latin1").load()
        x = np.ascontiguousarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32)
        y = torch.tensor(batch["labels"], dtype=torch.int64)
        if y.shape != (len(x),):
            raise ValueError(f"{len(x)} images and labels of shape {list(y.shape)}")
        return torch.from_numpy(x), y
    except Exception as error:  # an unpickler raises many types of error for broken content
        raise ValueError(f"expected arrays and lists in {tar.name!s}/{name}, got {reason(error)}") from error


def read_official(archive: Path, counts: dict[str, int]) -> Splits:
    """Return the splits of the official archive, in their official order.

    Raises ValueError if the numbers of images are not `counts`.
    """
    names = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    with tarfile.open(archive) as tar:
        batches = {split: [_batch(tar, name) for name in names[split]] for split in names}
    splits = {
        split: (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])) for split, parts in batches.items()
    }
    found = {split: len(y) for split, (_, y) in splits.items()}
    if found != counts:
        raise ValueError(f"expected {counts} images in {archive}, got {found}")
    return splits


def read_tree(source: Path, *, n_workers: int, report: Callable[[str], None]) -> tuple[str, Splits]:
    """Return the kind of a folder or archive [<top>/]{train,test}/<class>/<image>, and its splits.

    Images must have 32 x 32 pixels. Their number is not checked. Raises ValueError if one of the ten classes has no
    image in one of the splits. Also raises the errors of `folders.read`.
    """
    labels = {name: label for label, name in enumerate(FACTS.classes)}
    splits = folders.read(
        source, labels, splits=("train", "test"), size=32, resize=False, n_workers=n_workers, report=report
    )
    empty = [f"{name}/{folder}" for name in splits for folder in FACTS.classes if folder not in splits[name].folders]
    if empty:
        raise ValueError(f"expected images of all ten classes in {source}, got none in {', '.join(empty)}; add them")
    lossless = all(path.lower().endswith(".png") for split in splits.values() for path in split.paths)
    return f"user's {'PNG' if lossless else 'JPEG'} tree", {name: (split.x, split.y) for name, split in splits.items()}


def get(folder: Path, *, n_workers: int, report: Callable[[str], None]) -> tuple[str, str, Splits]:
    """Return the name of the source that gave CIFAR-10, its kind, and the splits.

    The first of these that there is is the only one that is used:

    1. the user's tree, the folder or archive ROBACC_CIFAR10
    2. the official archive in ROBACC_MIRROR, a folder or URL
    3. the official archive in `folder`
    4. a tree of images in `folder`
    5. the download of the official archive

    Raises OSError or ValueError, with the name of that source, if it cannot be used.
    """
    own, name = os.environ.get("ROBACC_CIFAR10"), f"images in {folder}"
    if own:
        with users_choice(f"ROBACC_CIFAR10={own}", "correct it or unset it"):
            kind, splits = read_tree(Path(own).expanduser(), n_workers=n_workers, report=report)
            return f"ROBACC_CIFAR10={own}", kind, splits
    there = {file.name for file in folder.glob("[!.]*")}
    if there - {ARCHIVE} and ARCHIVE not in there and not os.environ.get("ROBACC_MIRROR"):
        with users_choice(name, f"correct or remove them, or put {ARCHIVE} there"):
            return name, *read_tree(folder, n_workers=n_workers, report=report)
    advice = ", or ROBACC_CIFAR10 to a folder or .tar.gz archive with {train,test}/<class>/*.png or .jpg"
    places = {ARCHIVE: [ARCHIVE]}
    public = {f"download from {URL}": from_mirror(URL, places)}
    name = fetch(folder, SHA256, places, public, advice=advice, report=report)
    return name, OFFICIAL, read_official(folder / ARCHIVE, COUNTS)


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the splits train and test to `out`, with the kind of their source."""
    name, kind, splits = get(raw, n_workers=n_workers, report=report)
    report(f"cifar10 from {name}: {kind}")
    for split, (x, y) in splits.items():
        in_memory.save(x, y, out / f"{split}.safetensors", source=kind)
