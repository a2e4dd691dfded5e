"""CIFAR-10 from the official archive, or from a tree of images of the user's own."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robacc import image_trees
from robacc.fetching import attempts, first_that_works, from_mirror

# In the order of the official labels 0 to 9.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVE = "cifar-10-python.tar.gz"  # MD5 c58f30108f718f92721af3b95e74349a, as torchvision checks it
SHA256 = {ARCHIVE: "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"}
URL = "https://www.cs.toronto.edu/~kriz"
COUNTS = {"train": 50_000, "test": 10_000}
OFFICIAL = "official archive"

Splits = dict[str, tuple[Tensor, Tensor]]  # split -> images, uint8 [N, 3, 32, 32], and labels, int64 [N]


class _ArraysOnly(pickle.Unpickler):
    """Reads the archive's lists and arrays; a pickle that asks for anything else is refused, not executed."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> object:
        """Return one of numpy's three functions that make an array. ValueError for anything else."""
        if name not in self.ALLOWED or module not in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            raise ValueError(f"expected arrays and lists, got {module}.{name}; archive refused")
        return super().find_class(module.replace(".core.", "._core."), name)  # the name since numpy 2


def _batch(tar: tarfile.TarFile, name: str) -> tuple[Tensor, Tensor]:
    member = tar.extractfile(f"cifar-10-batches-py/{name}")
    assert member is not None
    batch = _ArraysOnly(io.BytesIO(member.read()), encoding="latin1").load()
    x = np.ascontiguousarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32)
    return torch.from_numpy(x), torch.tensor(batch["labels"])


def read_official(archive: Path, counts: dict[str, int]) -> Splits:
    """Return the splits of the official archive in their official order. ValueError for other `counts` of images."""
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
    """Return what a folder or archive [<top>/]{train,test}/<class>/<image> is, and its splits; images are 32 x 32.

    Raises ValueError if one of the ten classes has no image in one of the splits, and what
    `image_trees.read` raises. The number of images is the user's affair.
    """
    labels = {name: label for label, name in enumerate(CLASSES)}
    splits = image_trees.read(
        source, labels, splits=("train", "test"), size=32, resize=False, n_workers=n_workers, report=report
    )
    empty = [f"{name}/{folder}" for name in splits for folder in CLASSES if folder not in splits[name].folders]
    if empty:
        raise ValueError(f"expected images of all ten classes in {source}, got none in {', '.join(empty)}; add them")
    lossless = all(path.lower().endswith(".png") for split in splits.values() for path in split.paths)
    return f"user's {'PNG' if lossless else 'JPEG'} tree", {name: (split.x, split.y) for name, split in splits.items()}


def get(folder: Path, *, n_workers: int, report: Callable[[str], None]) -> tuple[str, str, Splits]:
    """Return which source gave CIFAR-10, what kind of source that is, and the splits.

    Tried in turn: the official archive in `folder`, or a tree of images there; the user's tree that
    ROBACC_CIFAR10 names; the official archive from ROBACC_MIRROR, a folder or URL; its download.
    OSError with all that was tried when none works.
    """
    own, mirror = os.environ.get("ROBACC_CIFAR10"), os.environ.get("ROBACC_MIRROR")

    def read_filled(fill: Callable[[], None]) -> tuple[str, Splits]:
        fill()
        return OFFICIAL, read_official(folder / ARCHIVE, COUNTS)

    def official(places: dict[str, str]) -> dict[str, Callable[[], tuple[str, Splits]]]:
        servers = {name: from_mirror(place, SHA256) for name, place in places.items()}
        return {name: partial(read_filled, fill) for name, fill in attempts(folder, servers, SHA256).items()}

    trees = {f"images in {folder}": folder} | ({f"ROBACC_CIFAR10={own}": Path(own).expanduser()} if own else {})
    users = {name: partial(read_tree, tree, n_workers=n_workers, report=report) for name, tree in trees.items()}
    places = ({f"ROBACC_MIRROR={mirror}": mirror} if mirror else {}) | {f"download from {URL}": URL}
    advice = (
        f"Put {ARCHIVE} into {folder} by hand, or set ROBACC_MIRROR to a folder or URL that holds it, or set "
        "ROBACC_CIFAR10 to a folder or .tar.gz archive with {train,test}/<class>/*.png or .jpg, and run again."
    )
    tried: dict[str, Callable[[], tuple[str, Splits]]] = {
        **official({}),
        **users,
        **official(places),
    }  # the archive already there keeps its first place
    name, (kind, splits) = first_that_works(tried, advice, report=report)
    return name, kind, splits
