"""Images in folders by class, [<top>/]<split>/<class>/<image>, a folder or a .tar.gz: listed, decoded, ordered."""

import io
import multiprocessing as mp
import sys
import tarfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robacc.seeding import generator

SUFFIXES = (".jpg", ".jpeg", ".png")
CHUNK = 256  # images that a process decodes at a time
ORDER_SEED = 0


class Entry(NamedTuple):
    """An image: its split, its class folder, its path "<split>/<class>/<image>", its bytes or the file with them."""

    split: str
    folder: str
    path: str
    content: bytes | Path


class Split(NamedTuple):
    """Decoded images of a split, uint8 [N, 3, size, size], their labels, int64 [N], and their paths in that order."""

    x: Tensor
    y: Tensor
    paths: list[str]

    @property
    def folders(self) -> set[str]:
        """The class folders that have images."""
        return {path.split("/")[1] for path in self.paths}


def entries(source: Path, splits: Collection[str], folders: Collection[str]) -> Iterator[Entry]:
    """Yield the images of these splits and class folders, in a folder (by name) or a tar archive (in its order).

    `source` may have folders around the splits. Nothing is written: an archive is read as a
    stream. Raises FileNotFoundError if `source` is not there, and ValueError if it has no such
    splits, is no archive, or has members that would be written outside the current folder.
    """
    if not source.exists():
        raise FileNotFoundError(f"expected a folder or archive at {source}, got nothing there")
    return (_in_folder if source.is_dir() else _in_archive)(source, splits, folders)


def root(folder: Path, splits: Collection[str]) -> Path:
    """Return the folder that holds the splits: `folder`, or the only folder in it, and so on."""
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
            place = top / split / folder
            for name in sorted(file.name for file in place.iterdir()) if place.is_dir() else ():
                if _is_image(name):
                    yield Entry(split, folder, f"{split}/{folder}/{name}", place / name)


def _in_archive(archive: Path, splits: Collection[str], folders: Collection[str]) -> Iterator[Entry]:
    tops: set[tuple[str, ...]] = set()
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined] # it would keep every header of ImageNet's million files
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
    """Return an image as uint8 [3, size, size]: RGB, its shorter side brought to `size`, the centre cut out.

    With `resize` false an image of another size is an error. A large JPEG is decoded at a
    half, quarter or eighth of its size, never below twice `size`, before the (antialiased) resize.
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
        except Exception as error:  # decoders raise whatever they like on a broken file
            reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "a broken file"
            raise ValueError(f"expected an image at {entry.path}, got: {reason}; replace or remove it") from error
    return decoded


def _decode_all(
    stream: Iterator[Entry], found: list[Entry], work: Callable[[list[Entry]], np.ndarray], n_workers: int
) -> Iterator[np.ndarray]:
    """Yield `work` of every chunk of `stream` in order, the next ones under way, and list its entries in `found`."""

    def chunks() -> Iterator[list[Entry]]:
        while chunk := list(islice(stream, CHUNK)):
            found.extend(entry._replace(content=b"") for entry in chunk)
            yield chunk

    if n_workers == 1:
        yield from map(work, chunks())
        return
    context = mp.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(n_workers, context) as pool:
        pending: deque[Future] = deque()
        for chunk in chunks():
            pending.append(pool.submit(work, chunk))
            if len(pending) > 3 * n_workers:  # what waits is in memory
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def order(paths: list[str]) -> list[int]:
    """Return the indices in the order in which a split is stored: a function of the set of paths alone.

    Sorted by path, then shuffled once: the first n images are a random sample of the split, as they
    are in the official files, where the order of the folders would put all of one class first.
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
    """Return the decoded images of every split in the class folders that `labels` knows; other folders are left out.

    Images are in the order of `order`; `n_workers` processes decode, on whose number the result does not
    depend, and `report` is told their speed. Takes two to three times the memory of the images. Raises what
    `entries` raises, and ValueError for a broken image or one of the wrong size, with its name, and for a split
    without images.
    """
    begin, found = time.monotonic(), list[Entry]()
    work = partial(_decode, size=size, resize=resize)
    decoded = list(_decode_all(entries(source, splits, labels), found, work, n_workers))
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
    rows = [rows[place] for place in order([found[row].path for row in rows])]
    y = torch.tensor([labels[found[row].folder] for row in rows])
    return Split(x[rows], y, [found[row].path for row in rows])
