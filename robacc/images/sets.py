"""Define what an image set is, in memory or on disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor


class ImageSet(ABC):
    """A labelled image set, in memory (`in_memory.Images`) or in files read when needed (`on_disk.ImageFiles`).

    `y` is int64 [N]. `sha256` names the content. `source` says where the set came from, if its content depends on that.
    Examples are a lossy copy and a user's own choice of classes. Otherwise `source` is empty. `missing` names the
    classes that the source did not have.
    """

    y: Tensor
    sha256: str
    source: str
    missing: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)

    @abstractmethod
    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices` as float32 [B, C, H, W] in [0, 1], and their labels [B]."""

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
        """Yield the images and labels of each training step in `steps`: the `share` of a batch drawn from `subset`.

        `batches.batch_indices` chooses the images. The augmentation is drawn for the whole batch. Both depend only on
        (seed, step), so a resumed run gets the batches of an uninterrupted one. `n_decoders` processes read files in
        advance; 0 reads them in this process. Raises ValueError for an `augment` that these images do not have.
        """
