"""Image sets as tensors, the nested training subsets of Figures 1 and 6, and the order of batches."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from robacc.files import must_exist, read_tensors, write_tensors
from robacc.seeding import generator


@dataclass(frozen=True)
class Images:
    """A labelled image set: `x` uint8 [N, C, H, W], `y` int64 [N], `sha256` of both.

    `source` says where it came from when its content depends on that (a lossy copy, the user's own
    choice of classes), else it is empty; `missing` names the classes that the source did not have.
    """

    x: Tensor
    y: Tensor
    sha256: str
    source: str = ""
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices` as float32 in [0, 1] and their labels."""
        return self.x[indices].float().div_(255), self.y[indices]

    def first(self, n: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the first `n` images, or all of them, as float32 in [0, 1] and their labels."""
        return self.batch(torch.arange(len(self) if n is None else min(n, len(self))))


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


def load(path: Path) -> Images:
    """Read a set that `save` wrote. ValueError if the content is not what was saved.

    The last sets read stay in memory, so that processes forked afterwards share them.
    """
    state = must_exist(path).stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, _mtime: int, _size: int) -> Images:
    tensors, metadata = read_tensors(path)
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
