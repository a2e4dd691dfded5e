"""Image sets as tensors, the nested training subsets of Figures 1 and 6, and the order of batches."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from robacc.augment import crop_and_flip
from robacc.files import must_exist, read_tensors, write_tensors
from robacc.seeding import generator

RAW = Path("data/incoming")  # what was downloaded, put there by hand, or unpacked, a folder a data set


class ImageSet(ABC):
    """A labelled image set, in memory (`Images`) or in files that are read when needed (`image_files.ImageFiles`).

    `y` int64 [N]; `sha256` names the content. `source` says where it came from when the content depends on that
    (a lossy copy, the user's own choice of classes), else it is empty; `missing` names the classes it did not have.
    """

    y: Tensor
    sha256: str
    source: str
    missing: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices` as float32 [B, C, H, W] in [0, 1] and their labels."""

    def first(self, n: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the first `n` images, or all of them, as `batch` does."""
        return self.batch(torch.arange(len(self) if n is None else min(n, len(self))))

    @abstractmethod
    def training_batches(
        self,
        subset: Tensor,
        steps: range,
        *,
        batch_size: int,
        seed: int,
        augment: str,
        padding: int,
        share: slice,
        n_decoders: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what training sees at each of `steps`: the `share` of the batch drawn from `subset`, and labels.

        Which images is `batch_indices`; the augmentation is that of the whole batch. Both are functions of
        (seed, step), so a resumed run sees what the uninterrupted one would have seen. ValueError for an
        `augment` that these images do not have. `n_decoders` processes read files ahead; 0 reads them here.
        """


@dataclass(frozen=True)
class Images(ImageSet):
    """An image set in memory: `x` uint8 [N, C, H, W], `y` int64 [N], `sha256` of both; see `ImageSet`."""

    x: Tensor
    y: Tensor
    sha256: str
    source: str = ""
    missing: tuple[str, ...] = ()

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices` as float32 [B, C, H, W] in [0, 1] and their labels."""
        return self.x[indices].float().div_(255), self.y[indices]

    def training_batches(
        self,
        subset: Tensor,
        steps: range,
        *,
        batch_size: int,
        seed: int,
        augment: str,
        padding: int,
        share: slice,
        n_decoders: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of `steps` as `ImageSet` says; `augment` is "none" or "crop_flip" by up to `padding`."""
        if augment not in ("none", "crop_flip"):
            raise ValueError(f"expected augment to be 'none' or 'crop_flip' for images in memory, got {augment!r}")
        for step in steps:
            indices = batch_indices(subset, step, batch_size, seed=seed)
            if augment == "none":
                yield self.batch(indices[share])
            else:
                x, y = self.batch(indices)
                yield crop_and_flip(x, padding, generator(seed, "augment", step))[share], y[share]


def content_hash(x: Tensor, y: Tensor) -> str:
    """Return the SHA-256 of images and labels as stored."""
    digest = hashlib.sha256(x.numpy().data)
    digest.update(y.numpy().data)
    return digest.hexdigest()


def save(x: Tensor, y: Tensor, path: Path, *, source: str = "", missing: Sequence[str] = ()) -> None:
    """Write images (uint8) and labels (int64) whole or not at all; for `source` and `missing` see `Images`."""
    if x.dtype != torch.uint8 or y.dtype != torch.int64 or len(x) != len(y):
        raise ValueError(f"expected uint8 images and as many int64 labels, got {x.dtype} {len(x)}, {y.dtype} {len(y)}")
    about = {"source": source, "missing": list(missing)}
    said = {name: value for name, value in about.items() if value}
    write_tensors({"x": x, "y": y}, path, {"sha256": content_hash(x, y), **said})


def load(path: Path) -> ImageSet:
    """Read a set that `save` or `image_files.save` wrote. ValueError if the content is not what was saved.

    The last sets read stay in memory, so that processes forked afterwards share them.
    """
    state = must_exist(path).stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, _mtime: int, _size: int) -> ImageSet:
    tensors, metadata = read_tensors(path)
    if "x" not in tensors:  # by name: it imports torchvision, and data sets in memory do not depend on it
        return import_module("robacc.image_files").of_table(tensors, metadata, RAW / path.parent.name)
    if content_hash(tensors["x"], tensors["y"]) != metadata["sha256"]:
        raise ValueError(f"expected {path} to hold the data that was saved, got other bytes; run `dvc repro -f fetch`")
    about = {"source": metadata.get("source", ""), "missing": tuple(metadata.get("missing", ()))}
    return Images(tensors["x"], tensors["y"], metadata["sha256"], **about)


def nested_subset(y: Tensor, n: int, *, seed: int) -> Tensor:
    """Return the indices of `n` of the examples labelled `y`, balanced and nested.

    The first n of one permutation that takes a random example of each class in turn: a larger
    subset contains every smaller one of the same seed, and class counts differ by at most one
    until a class runs out. Raises ValueError unless 1 <= n <= len(y).
    """
    if not 1 <= n <= len(y):
        raise ValueError(f"expected a training-set size between 1 and {len(y)}, got {n}")
    shuffled = torch.randperm(len(y), generator=generator(seed, "subset"))
    rank = torch.empty(len(y))
    for label in y.unique():
        members = shuffled[y[shuffled] == label]
        rank[members] = torch.arange(len(members)) + torch.rand(1, generator=generator(seed, "turn", int(label)))
    return rank.argsort(stable=True)[:n]


def subset_hash(indices: Tensor) -> str:
    """Return the SHA-256 of a subset's indices in their order."""
    return hashlib.sha256(indices.numpy().data).hexdigest()


def batch_indices(indices: Tensor, step: int, batch_size: int, *, seed: int) -> Tensor:
    """Return the examples of training step `step`: [batch_size] drawn from `indices`.

    The stream runs through a new permutation of `indices` every epoch, and a batch may cross from
    one to the next, so each batch is full and a subset smaller than a batch works. A function of
    the step alone: a resumed run sees what the uninterrupted one would have seen.
    """
    position = torch.arange(step * batch_size, (step + 1) * batch_size)
    epoch, place = position // len(indices), position % len(indices)
    order = [_epoch_order(len(indices), int(e), seed)[place[epoch == e]] for e in epoch.unique()]
    return indices[torch.cat(order)]


@lru_cache(maxsize=2)  # a step needs one, or two where an epoch ends
def _epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, "epoch", epoch))
