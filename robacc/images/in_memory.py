"""Keep image sets in memory, and write and read their files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robacc.files import write_tensors
from robacc.images.augment import crop_and_flip
from robacc.images.batches import batch_indices
from robacc.images.sets import ImageSet
from robacc.seeding import generator


@dataclass(frozen=True)
class Images(ImageSet):
    """An image set in memory: `x` uint8 [N, C, H, W], `y` int64 [N].

    `sha256` is the hash of both. The other fields are those of `ImageSet`.
    """

    x: Tensor
    y: Tensor
    sha256: str
    source: str = ""
    missing: tuple[str, ...] = ()

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices` as float32 [B, C, H, W] in [0, 1], and their labels [B]."""
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
        """Yield the batches of `steps`, as `ImageSet` says.

        `augment` is "none", or "crop_flip" by up to `padding` pixels.
        """
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
    """Write images (uint8) and labels (int64) to one file, whole or not at all.

    `source` and `missing` are those of `ImageSet`. Raises ValueError for other types, and for unequal numbers.
    """
    if x.dtype != torch.uint8 or y.dtype != torch.int64 or len(x) != len(y):
        raise ValueError(f"expected uint8 images and as many int64 labels, got {x.dtype} {len(x)}, {y.dtype} {len(y)}")
    about = {"source": source, "missing": list(missing)}
    said = {name: value for name, value in about.items() if value}
    write_tensors({"x": x, "y": y}, path, {"sha256": content_hash(x, y), **said})


def of_tensors(tensors: Mapping[str, Tensor], metadata: Mapping) -> Images:
    """Return the image set of a file that `save` wrote."""
    about = {"source": metadata.get("source", ""), "missing": tuple(metadata.get("missing", ()))}
    return Images(tensors["x"], tensors["y"], metadata["sha256"], **about)
