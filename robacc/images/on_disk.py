"""Read ImageNet-size images from their files when training needs them, fast enough for a GPU.

One core reads, decodes and transforms 490 images a second for evaluation and 500 for training. This was measured on 203
full-size images of 471 x 395 pixels on average. Decoding takes three quarters of the time. A net that processes 2,000
images a second needs four cores.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as transforms

from robacc.files import must_exist, write_tensors
from robacc.images import picture
from robacc.images.batches import batch_indices
from robacc.images.sets import ImageSet
from robacc.seeding import generator

SIZE = 224
SHORTER_SIDE = 256  # before the centre crop of evaluation
AREA = (0.08, 1.0)  # share of the image in a training crop
RATIO = (3 / 4, 4 / 3)  # width to height of a training crop

AHEAD = 4  # batches that each decoding process prepares in advance

Draw = tuple[int | None, int]  # (training step, or None for evaluation; index of the image)


@dataclass(frozen=True)
class ImageFiles(ImageSet):
    """An image set (`sets.ImageSet`) whose images are files in `root`, seen as 224 x 224 pixels.

    `sha256` is the hash of paths, labels and file sizes. It does not cover the content of the files, because reading 30
    GB takes too long. Reading a file whose size has changed raises an error.
    """

    root: Path
    paths: list[str]
    n_bytes: list[int]
    y: Tensor
    sha256: str
    source: str = ""
    missing: tuple[str, ...] = ()

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images at `indices` as evaluation sees them, and their labels [B].

        They are float32 [B, 3, 224, 224] in [0, 1]. A thousand images take 0.6 GB.
        """
        x = torch.stack([self.pixels((None, i), seed=0) for i in indices.tolist()])
        return x.float().div_(255), self.y[indices]

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
        """Yield the batches of `steps`, as `ImageSet` says.

        `augment` is "random_crop", which depends on seed, step and index. The `n_decoders` processes live for the whole
        run. Each of them prepares `AHEAD` batches in advance. They change only the speed.
        """
        if augment != "random_crop":
            raise ValueError(f"expected augment to be 'random_crop' for images read from files, got {augment!r}")
        draws = (
            [(step, i) for i in batch_indices(subset, step, batch_size, seed=seed)[share].tolist()] for step in steps
        )
        loader = DataLoader(
            _Pixels(self, seed),
            batch_sampler=draws,
            collate_fn=_collate,
            num_workers=n_decoders,
            prefetch_factor=AHEAD if n_decoders else None,
            persistent_workers=n_decoders > 0,
            generator=torch.Generator(),  # otherwise it draws from the global one
        )
        try:
            for batch in loader:
                if isinstance(batch, Exception):
                    raise batch
                x, y = (torch.from_numpy(array) for array in batch)
                yield x.float().div_(255), y
        finally:
            del loader  # ends the workers now; inside a traceback it would wait 5 s for them

    def pixels(self, draw: Draw, *, seed: int) -> Tensor:
        """Return one image as uint8 [3, 224, 224].

        Raises ValueError, with the name of the image, if its file is broken or has changed.
        """
        step, i = draw
        content = must_exist(self.root / self.paths[i]).read_bytes()
        if len(content) != self.n_bytes[i]:
            raise ValueError(
                f"expected {self.n_bytes[i]} bytes in {self.paths[i]}, got {len(content)}; fetch the data set again"
            )
        try:
            image = decode(content)
        except picture.UnreadableError as error:
            raise ValueError(f"expected an image at {self.paths[i]}, got {error}; replace it") from error
        return centre(image) if step is None else random_crop(image, generator(seed, "crop", step, i))


def save(table: Mapping, path: Path) -> None:
    """Write a list of images to one file.

    `table` has the columns `path`, `label` and `bytes`, and the entries `source` and `missing`.
    """
    tensors = {"y": torch.tensor(table["label"]), "n_bytes": torch.tensor(table["bytes"])}
    about = {"path": table["path"], "source": table.get("source", ""), "missing": list(table.get("missing", ()))}
    write_tensors(tensors, path, about)


def of_table(tensors: Mapping[str, Tensor], metadata: Mapping, root: Path) -> ImageFiles:
    """Return the image set of a list that `save` wrote, with its images in the folder `root`.

    Raises FileNotFoundError if that folder does not exist.
    """
    y, n_bytes, paths = tensors["y"], tensors["n_bytes"].tolist(), metadata["path"]
    if not root.exists():
        command = f"dvc repro -f -s fetch_{root.name}"
        raise FileNotFoundError(f"expected images in {root}, got nothing; run `{command}`, each machine has its own")
    content = json.dumps([paths, y.tolist(), n_bytes]).encode()
    missing = tuple(metadata["missing"])
    return ImageFiles(root, paths, n_bytes, y, hashlib.sha256(content).hexdigest(), metadata["source"], missing)


def decode(content: bytes) -> Tensor:
    """Return an image as uint8 [3, H, W] in RGB.

    Raises the errors of `picture.rgb`.
    """
    return torch.from_numpy(np.array(picture.rgb(content))).permute(2, 0, 1)


def centre(image: Tensor) -> Tensor:
    """Return the evaluation view of an image [3, H, W]: shorter side 256, centre crop [3, 224, 224]."""
    return transforms.center_crop(transforms.resize(image, [SHORTER_SIDE], antialias=True), [SIZE, SIZE])


def crop_box(height: int, width: int, draws: torch.Generator) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random crop (Szegedy et al. 2015).

    The crop has 8 to 100 % of the area, and sides of 3:4 to 4:3. It is the first of ten draws that fits the image. If
    none fits, it is the largest centre crop of an allowed ratio.
    """
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for area, ratio, down, right in torch.rand(10, 4, generator=draws).tolist():
        pixels = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
        shape = math.exp(low + (high - low) * ratio)
        crop_width, crop_height = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = int(down * (height - crop_height + 1)), int(right * (width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_width = max(1, min(width, round(height * RATIO[1])))
    crop_height = max(1, min(height, round(width / RATIO[0])))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_crop(image: Tensor, draws: torch.Generator) -> Tensor:
    """Return the training view of an image [3, H, W]: a random crop, resized to [3, 224, 224].

    It is mirrored with probability 1/2.
    """
    box = crop_box(image.shape[1], image.shape[2], draws)
    view = transforms.resized_crop(image, *box, [SIZE, SIZE], antialias=True)
    return view.flip(2) if torch.rand(1, generator=draws) < 0.5 else view


class _Pixels(Dataset):
    """A data set that maps a draw to (uint8 image, label), arrays.

    Bytes between processes are a quarter of the size of floats.
    """

    def __init__(self, images: ImageFiles, seed: int) -> None:
        self.images, self.seed = images, seed

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, int] | Exception:
        try:
            return self.images.pixels(draw, seed=self.seed).numpy(), int(self.images.y[draw[1]])
        except (OSError, ValueError) as error:  # raised in a worker, it becomes a page of traceback
            return error


def _collate(items: list) -> object:
    """Return a batch as two arrays, or the first error.

    Tensors would go through /dev/shm, which is too small for them in many containers.
    """
    error = next((item for item in items if isinstance(item, Exception)), None)
    return error or tuple(np.stack(column) for column in zip(*items, strict=True))
