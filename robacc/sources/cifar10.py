"""Get CIFAR-10 from the official archive, or from a user's own tree of images."""

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

from robacc.datasets.cifar10 import ARCHIVE, COUNTS, FACTS, SHA256, URL
from robacc.images import folders, in_memory
from robacc.images.fetching import attempts, first_that_works, from_mirror

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
            raise ValueError(f"expected arrays and lists, got {module}.{name}; archive refused")
        return super().find_class(module.replace(".core.", "._core."), name)  # NumPy 2 has this name


def _batch(tar: tarfile.TarFile, name: str) -> tuple[Tensor, Tensor]:
    member = tar.extractfile(f"cifar-10-batches-py/{name}")
    assert member is not None
    batch = _ArraysOnly(io.BytesIO(member.read()), encoding="latin1").load()
    x = np.ascontiguousarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32)
    return torch.from_numpy(x), torch.tensor(batch["labels"])


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

    These sources are tried in order:

    1. the official archive in `folder`
    2. a tree of images in `folder`
    3. the user's tree, the folder or archive ROBACC_CIFAR10
    4. the official archive in ROBACC_MIRROR, a folder or URL
    5. the download of the official archive

    Raises OSError with every error if all fail.
    """
    own, mirror = os.environ.get("ROBACC_CIFAR10"), os.environ.get("ROBACC_MIRROR")

    def read_filled(fill: Callable[[], None]) -> tuple[str, Splits]:
        fill()
        return OFFICIAL, read_official(folder / ARCHIVE, COUNTS)

    def official(addresses: dict[str, str]) -> dict[str, Callable[[], tuple[str, Splits]]]:
        servers = {name: from_mirror(address, SHA256) for name, address in addresses.items()}
        return {name: partial(read_filled, fill) for name, fill in attempts(folder, servers, SHA256).items()}

    trees = {f"images in {folder}": folder} | ({f"ROBACC_CIFAR10={own}": Path(own).expanduser()} if own else {})
    users = {name: partial(read_tree, tree, n_workers=n_workers, report=report) for name, tree in trees.items()}
    addresses = ({f"ROBACC_MIRROR={mirror}": mirror} if mirror else {}) | {f"download from {URL}": URL}
    advice = (
        f"Put {ARCHIVE} into {folder} by hand, or set ROBACC_MIRROR to a folder or URL that holds it, or set "
        "ROBACC_CIFAR10 to a folder or .tar.gz archive with {train,test}/<class>/*.png or .jpg, and run again."
    )
    tried: dict[str, Callable[[], tuple[str, Splits]]] = {
        **official({}),
        **users,
        **official(addresses),
    }  # files in `folder` remain the first source
    name, (kind, splits) = first_that_works(tried, advice, report=report)
    return name, kind, splits


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the splits train and test to `out`, with the kind of their source."""
    name, kind, splits = get(raw, n_workers=n_workers, report=report)
    report(f"cifar10 from {name}: {kind}")
    for split, (x, y) in splits.items():
        in_memory.save(x, y, out / f"{split}.safetensors", source=kind)
