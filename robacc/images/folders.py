"""Read images of the form [<top>/]<split>/<class>/<image>, from a folder or a .tar, .tar.gz or .zip archive.

Images are listed, decoded and put into a fixed order.
"""

import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robacc.images import picture
from robacc.parallel import stream
from robacc.seeding import generator

SUFFIXES = (".jpg", ".jpeg", ".png")
HIDDEN = (".", "__MACOSX")  # what systems leave beside a user's files
CHUNK = 256  # images in one task of a process
ORDER_SEED = 0

# What no archive of images exceeds: bytes of an image, number of members, bytes of them all, bytes of a long name.
LARGEST_IMAGE, MOST_MEMBERS, LARGEST_ARCHIVE, LONGEST_NAME = 2**26, 5_000_000, 2**40, 2**16


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
    """The decoded images `x` of a split, uint8 [N, 3, size, size], or [N, 1, size, size] in grey.

    `y` are their labels, int64 [N]. `paths` are in the same order.
    """

    x: Tensor
    y: Tensor
    paths: list[str]

    @property
    def folders(self) -> set[str]:
        """The class folders that have images."""
        return {path.split("/")[1] for path in self.paths}


class RefusedError(ValueError):
    """A readable archive that is not one of images. The message says why."""


def entries(source: Path, splits: Collection[str], folders: Collection[str] | None) -> Iterator[Entry]:
    """Yield the images of these splits and class folders, or of any class folders, from a folder or an archive.

    The images of a folder are in the order of their names. Those of an archive are in its order. `source` may have
    other folders above the splits. A folder may have the form of Tiny ImageNet. An archive is read as a stream, and
    nothing is written. Raises FileNotFoundError if `source` does not exist. Raises ValueError if it is not an archive,
    has members with a path outside it, or no image of one of the splits. For a folder that is before the first image.
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
        below = [file for file in inside.iterdir() if file.is_dir() and not file.name.startswith(HIDDEN)]
        if len(below) != 1:
            raise ValueError(
                f"expected folders {' and '.join(splits)} in {folder}, got {len(below)} others in {inside}"
            )
        (inside,) = below
    return inside


def check(top: Path, splits: Collection[str], folders: Collection[str] | None) -> None:
    """Raise ValueError unless each split in `top` has an image in one of these class folders, or in any."""
    for split in splits:
        if next(_files(top / split, folders), None) is None:
            inside = sorted(file.name for file in (top / split).iterdir()) if (top / split).is_dir() else []
            raise ValueError(_nothing(split, top, folders, next(filter(_is_image, inside), None), inside))


def _nothing(split: str, source: Path, folders: Collection[str] | None, flat: str | None, inside: list[str]) -> str:
    """Return the message about a split without images; `flat` is an image in no class folder, `inside` is there."""
    wanted = f"expected images in {split}/<class>/ of {source}, got"
    if flat:
        return f"{wanted} {split}/{flat}, which is in no class folder; move each image into the folder of its class"
    none = "none" if folders is None else f"none of the {len(folders)} classes"
    return f"{wanted} {none}" + (f"; there are {', '.join(inside[:5])}" if inside else "")


def _files(split: Path, folders: Collection[str] | None) -> Iterator[tuple[str, Path]]:
    """Yield (class, file) for the images of a split, sorted: <class>/<image>, or a form of Tiny ImageNet.

    That is <class>/images/<image> in train/, and images/<image> in val/, with a list of names and classes.
    """
    if folders is None:
        inside = split.iterdir() if split.is_dir() else ()
        folders = [file.name for file in inside if file.is_dir() and not file.name.startswith(HIDDEN)]
    labelled = split / "val_annotations.txt"
    if labelled.is_file() and (split / "images").is_dir():
        rows = (line.split("\t") for line in labelled.read_text(encoding="utf-8", errors="replace").splitlines())
        named = sorted((row[1], row[0]) for row in rows if len(row) > 1 and row[1] in folders and _is_image(row[0]))
        yield from ((folder, split / "images" / PurePosixPath(name).name) for folder, name in named)
        return
    for folder in sorted(folders):
        of_class = split / folder / "images"
        of_class = of_class if of_class.is_dir() else split / folder
        for name in sorted(file.name for file in of_class.iterdir()) if of_class.is_dir() else ():
            if _is_image(name):
                yield folder, of_class / name


def _in_folder(source: Path, splits: Collection[str], folders: Collection[str] | None) -> Iterator[Entry]:
    top = root(source, splits)
    check(top, splits, folders)
    for split in splits:
        for folder, file in _files(top / split, folders):
            yield Entry(split, folder, f"{split}/{folder}/{file.name}", file)


LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)


class _Header(tarfile.TarInfo):
    """A header of an archive; tarfile would read a name of any length into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in LONG_NAMES and self.size > LONGEST_NAME:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)  # type: ignore[misc] # tarfile's own hook


class _Member(NamedTuple):
    """A member of an archive; `plain` is whether it is a file and no link or device."""

    name: str
    size: int
    plain: bool
    read: Callable[[], bytes]


def _in_tar(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r|*", tarinfo=_Header) as tar:
        for info in tar:
            tar.members.clear()  # type: ignore[attr-defined] # tarfile keeps the headers of a million files

            def read(info: tarfile.TarInfo = info) -> bytes:
                content = tar.extractfile(info)
                assert content is not None
                return content.read()

            yield _Member(info.name, info.size, info.isfile(), read)


def _in_zip(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            yield _Member(info.filename, info.file_size, not link and not info.is_dir(), partial(opened.read, info))


def _in_archive(archive: Path, splits: Collection[str], folders: Collection[str] | None) -> Iterator[Entry]:
    tops: set[tuple[str, ...]] = set()
    found: set[str] = set()
    others: list[str] = []
    n_bytes = 0
    with archive.open("rb") as file:
        kind, members = (".zip", _in_zip) if file.read(2) == b"PK" else (".tar.gz", _in_tar)
    try:
        for n, member in enumerate(members(archive)):
            n_bytes += member.size
            if n >= MOST_MEMBERS or n_bytes > LARGEST_ARCHIVE:
                most = f"{MOST_MEMBERS:,} members and {LARGEST_ARCHIVE:,} bytes"
                raise RefusedError(f"expected at most {most} in {archive}, got more; archive refused")
            parts = PurePosixPath(member.name).parts
            if ".." in parts or member.name.startswith("/"):
                raise RefusedError(f"expected paths inside of {archive.name}, got {member.name!r}; archive refused")
            in_class = len(parts) > 2 and parts[-3] in splits and not parts[-2].startswith(HIDDEN)
            if not in_class or (folders is not None and parts[-2] not in folders) or not _is_image(parts[-1]):
                others += [member.name] * (len(others) < 1 and member.plain)
                if len(parts) > 1 and parts[-2] in splits and parts[-2] not in found and _is_image(parts[-1]):
                    raise RefusedError(_nothing(parts[-2], archive, folders, parts[-1], []))
                continue
            tops.add(parts[:-3])
            if len(tops) > 1 or not member.plain:
                raise RefusedError(f"expected one tree of plain files in {archive}, got {member.name!r}; pack it anew")
            if member.size > LARGEST_IMAGE:
                raise RefusedError(f"expected an image at {member.name} in {archive}, got {member.size:,} bytes")
            found.add(parts[-3])
            yield Entry(parts[-3], parts[-2], "/".join(parts[-3:]), member.read())
        for split in set(splits) - found:
            nothing = _nothing(split, archive, folders, None, others)
            raise RefusedError(f"{nothing}; if it has another form, unpack it and name its folder")
    except RefusedError:
        raise
    except Exception as error:  # decompressors, tarfile and zipfile raise many types of error for a broken file
        raise ValueError(f"expected a whole {kind} archive at {archive}, got: {error}; copy it anew") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def pixels(content: bytes | Path, *, size: int, resize: bool, grey: bool = False, upright: bool = False) -> np.ndarray:
    """Return an image as uint8 [3, size, size] in RGB, its shorter side resized to `size`, its centre cropped.

    A `grey` one is [1, size, size]. An `upright` one is turned as its camera says.

    If `resize` is false, an image of another size is refused. A large JPEG is first decoded at a half, quarter or
    eighth of its size, never below twice `size`. The resize is antialiased. Raises the errors of `picture.rgb`.
    """
    rgb = picture.rgb(content, exact=None if resize else size, at_least=2 * size, upright=upright)
    side = min(rgb.size)
    if rgb.size != (size, size):
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        box = (left, top, left + side, top + side)
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box)
    return np.asarray(rgb.convert("L"))[None] if grey else np.asarray(rgb).transpose(2, 0, 1)


def _decode(chunk: list[Entry], *, size: int, resize: bool, grey: bool, upright: bool) -> np.ndarray:
    decoded = np.empty((len(chunk), 1 if grey else 3, size, size), np.uint8)
    for row, entry in zip(decoded, chunk, strict=True):
        try:
            row[:] = pixels(entry.content, size=size, resize=resize, grey=grey, upright=upright)
        except picture.UnreadableError as error:
            raise ValueError(f"expected an image at {entry.path}, got: {error}; replace or remove it") from error
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
    grey: bool = False,
    upright: bool = False,
    n_workers: int,
    report: Callable[[str], None],
) -> dict[str, Split]:
    """Return the decoded images of every split, in the class folders that `labels` names.

    `grey` and `upright` are those of `pixels`.

    Other folders are skipped. The images are in the order of `order`. `n_workers` processes decode them, and the result
    does not depend on that number. `report` gets the speed. The memory is two to three times that of the images. Raises
    the errors of `entries`. Raises ValueError, with its name, for an image that is broken or of the wrong size.
    """
    begin, found = time.monotonic(), list[Entry]()
    work = partial(_decode, size=size, resize=resize, grey=grey, upright=upright)
    chunks = _chunks(entries(source, splits, labels), found)
    decoded = list(map(work, chunks) if n_workers == 1 else stream(work, chunks, n_workers=n_workers))
    seconds = time.monotonic() - begin
    report(
        f"{len(found)} images decoded in {seconds:.0f} s, {len(found) / seconds:,.0f} images/s (processes: {n_workers})"
    )
    x = torch.from_numpy(np.concatenate(decoded))
    del decoded
    return {split: _sorted_split(split, found, x, labels) for split in splits}


def _sorted_split(split: str, found: list[Entry], x: Tensor, labels: Mapping[str, int]) -> Split:
    rows = [row for row, entry in enumerate(found) if entry.split == split]
    rows = [rows[index] for index in order([found[row].path for row in rows])]
    y = torch.tensor([labels[found[row].folder] for row in rows])
    return Split(x[rows], y, [found[row].path for row in rows])
