"""Read images of the form [<top>/]<split>/<class>/<image>, from a folder or a .tar.gz archive.

Images are listed, decoded and put into a fixed order.
"""

import io
import tarfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robacc.parallel import stream
from robacc.seeding import generator

SUFFIXES = (".jpg", ".jpeg", ".png")
CHUNK = 256  # images in one task of a process
ORDER_SEED = 0


class Entry(NamedTuple):
    """An image before decoding.

    `path` is "<split>/<class>/<image>", and `folder` its class. `content` is the bytes of the image or the file with
    them.
    """

    split: str
    folder: str
    path: str
    content: bytes | Path


class Split(NamedTuple):
    """The decoded images `x` of a split, uint8 [N, 3, size, size].

    `y` are their labels, int64 [N]. `paths` are in the same order.
    """

    x: Tensor
    y: Tensor
    paths: list[str]

    @property
    def folders(self) -> set[str]:
        """The class folders that have images."""
        return {path.split("/")[1] for path in self.paths}


def entries(source: Path, splits: Collection[str], folders: Collection[str]) -> Iterator[Entry]:
    """Yield the images of these splits and class folders, from a folder or a tar archive.

    The images of a folder are in the order of their names. Those of an archive are in its order. `source` may have
    other folders above the splits. An archive is read as a stream, and nothing is written. Raises FileNotFoundError if
    `source` does not exist. Raises ValueError if it has no such splits, is not an archive, or has members with a path
    outside it.
    """
    if not source.exists():
        raise FileNotFoundError(f"expected a folder or archive at {source}, got nothing there")
    return (_in_folder if source.is_dir() else _in_archive)(source, splits, folders)


def root(folder: Path, splits: Collection[str]) -> Path:
    """Return the folder that contains the splits.

    It is `folder`, or the only folder in it, and so on. Raises ValueError if there is no such folder.
    """
    inside = folder
    while not any((inside / split).is_dir() for split in splits):
        below = [file for file in inside.iterdir() if file.is_dir() and not file.name.startswith(".")]
        if len(below) != 1:
            raise ValueError(
                f"expected folders {' and '.join(splits)} in {folder}, got {len(below)} others in {inside}"
            )
        (inside,) = below
    return inside


def _in_folder(source: Path, splits: Collection[str], folders: Collection[str]) -> Iterator[Entry]:
    top = root(source, splits)
    for split in splits:
        for folder in sorted(folders):
            class_folder = top / split / folder
            for name in sorted(file.name for file in class_folder.iterdir()) if class_folder.is_dir() else ():
                if _is_image(name):
                    yield Entry(split, folder, f"{split}/{folder}/{name}", class_folder / name)


def _in_archive(archive: Path, splits: Collection[str], folders: Collection[str]) -> Iterator[Entry]:
    tops: set[tuple[str, ...]] = set()
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined] # tarfile keeps the headers of a million files
                parts = PurePosixPath(member.name).parts
                if ".." in parts or member.name.startswith("/"):
                    raise ValueError(f"expected paths inside of {archive.name}, got {member.name!r}; archive refused")
                if len(parts) < 3 or parts[-3] not in splits or parts[-2] not in folders or not _is_image(parts[-1]):
                    continue
                tops.add(parts[:-3])
                if len(tops) > 1 or not member.isfile():
                    raise ValueError(
                        f"expected one tree of plain files in {archive}, got {member.name!r}; pack it anew"
                    )
                content = tar.extractfile(member)
                assert content is not None
                yield Entry(parts[-3], parts[-2], "/".join(parts[-3:]), content.read())
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"expected a whole .tar.gz archive at {archive}, got: {error}; copy it anew") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def pixels(content: bytes | Path, *, size: int, resize: bool) -> np.ndarray:
    """Return an image as uint8 [3, size, size] in RGB, its shorter side resized to `size`, its centre cropped.

    If `resize` is false, an image of another size raises ValueError. A large JPEG is first decoded at a half, quarter
    or eighth of its size, never below twice `size`. The resize is antialiased.
    """
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        if not resize and image.size != (size, size):
            raise ValueError(f"expected {size} x {size} pixels, got {image.width} x {image.height}")
        image.draft("RGB", (2 * size, 2 * size))
        rgb = image.convert("RGB")
    side = min(rgb.size)
    if rgb.size != (size, size):
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        box = (left, top, left + side, top + side)
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(rgb).transpose(2, 0, 1)


def _decode(chunk: list[Entry], *, size: int, resize: bool) -> np.ndarray:
    decoded = np.empty((len(chunk), 3, size, size), np.uint8)
    for row, entry in zip(decoded, chunk, strict=True):
        try:
            row[:] = pixels(entry.content, size=size, resize=resize)
        except Exception as error:  # decoders raise many types of error for a broken file
            reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "a broken file"
            raise ValueError(f"expected an image at {entry.path}, got: {reason}; replace or remove it") from error
    return decoded


def _chunks(found: Iterator[Entry], listed: list[Entry]) -> Iterator[list[Entry]]:
    """Yield `found` in chunks, and append its entries without their content to `listed`."""
    while chunk := list(islice(found, CHUNK)):
        listed.extend(entry._replace(content=b"") for entry in chunk)
        yield chunk


def order(paths: list[str]) -> list[int]:
    """Return the indices in the order in which a split is stored.

    The paths are sorted and then shuffled with a fixed seed. So the order depends only on the set of paths. The first n
    images are a random sample of the split, as in the official files. In the order of folders they would be of one
    class.
    """
    by_path = sorted(range(len(paths)), key=paths.__getitem__)
    return [by_path[i] for i in torch.randperm(len(paths), generator=generator(ORDER_SEED, "order")).tolist()]


def read(
    source: Path,
    labels: Mapping[str, int],
    *,
    splits: Collection[str],
    size: int,
    resize: bool,
    n_workers: int,
    report: Callable[[str], None],
) -> dict[str, Split]:
    """Return the decoded images of every split, in the class folders that `labels` names.

    Other folders are skipped. The images are in the order of `order`. `n_workers` processes decode them, and the result
    does not depend on that number. `report` gets the speed. The memory is two to three times that of the images. Raises
    the errors of `entries`. Raises ValueError, with its name, for an image that is broken or of the wrong size, and for
    a split without images.
    """
    begin, found = time.monotonic(), list[Entry]()
    work = partial(_decode, size=size, resize=resize)
    chunks = _chunks(entries(source, splits, labels), found)
    decoded = list(map(work, chunks) if n_workers == 1 else stream(work, chunks, n_workers=n_workers))
    seconds = time.monotonic() - begin
    report(
        f"{len(found)} images decoded in {seconds:.0f} s, {len(found) / seconds:,.0f} images/s (processes: {n_workers})"
    )
    if empty := set(splits) - {entry.split for entry in found}:
        raise ValueError(f"expected images in {'/<class>/, '.join(sorted(empty))}/<class>/ of {source}, got none")
    x = torch.from_numpy(np.concatenate(decoded))
    del decoded
    return {split: _sorted_split(split, found, x, labels) for split in splits}


def _sorted_split(split: str, found: list[Entry], x: Tensor, labels: Mapping[str, int]) -> Split:
    rows = [row for row, entry in enumerate(found) if entry.split == split]
    rows = [rows[index] for index in order([found[row].path for row in rows])]
    y = torch.tensor([labels[found[row].folder] for row in rows])
    return Split(x[rows], y, [found[row].path for row in rows])
