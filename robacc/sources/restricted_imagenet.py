"""Get Restricted ImageNet from the user's own copy of ImageNet."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from robacc.datasets.restricted_imagenet import LABELS, SUPER_CLASSES
from robacc.files import whole
from robacc.images import folders, on_disk

SPLITS = {"train": "train", "test": "val"}  # our name -> ImageNet's
SOURCE = "user's ImageNet"


def balanced_size(y: list[int]) -> int:
    """Return the largest n at which `batches.nested_subset` has equally many images of each super-class present.

    A training set of this size is a balanced sample. It is seeded and nested, and needs no copy of the data.
    """
    counts = Counter(y)
    return min(counts.values()) * len(counts)


def missing(paths: Iterable[str]) -> list[str]:
    """Return the classes without a path "<split>/<wnid>/<image>" in `paths`, in ImageNet's order."""
    return sorted(LABELS.keys() - {path.split("/")[1] for path in paths})


def user_copy() -> Path:
    """Return the folder or archive that ROBACC_IMAGENET names.

    Raises ValueError if that variable is not set.
    """
    given = os.environ.get("ROBACC_IMAGENET")
    if not given:
        raise ValueError(
            "expected ROBACC_IMAGENET to name a folder or .tar.gz archive with {train,val}/<wnid>/*.JPEG, got nothing; "
            "ImageNet asks each user to agree to its terms, so set it to your own copy"
        )
    return Path(given).expanduser()


def small_images(source: Path, *, size: int, n_workers: int, report: Callable[[str], None]) -> dict[str, folders.Split]:
    """Return the splits "train" and "test", with images uint8 [N, 3, size, size].

    The shorter side is resized to `size`, and the centre is cropped. Labels are those of `LABELS`, even without images
    of some super-class. Raises the errors of `folders.read`.
    """
    read = folders.read(
        source, LABELS, splits=SPLITS.values(), size=size, resize=True, n_workers=n_workers, report=report
    )
    return {ours: read[theirs] for ours, theirs in SPLITS.items()}


def unpack(archive: Path, folder: Path) -> None:
    """Write the images of an archive to `folder`/{train,val}/<wnid>/, those that are not there yet.

    Raises ValueError if `folder` has an image that the archive does not have.
    """
    names = set()
    advice = f"got another file, perhaps of another archive; move {folder} away"
    for entry in folders.entries(archive, SPLITS.values(), LABELS):
        file = folder / entry.path
        assert isinstance(entry.content, bytes)
        if not file.exists():
            with whole(file) as partial:
                partial.write_bytes(entry.content)
        elif file.read_bytes() != entry.content:
            raise ValueError(f"expected {file} as in {archive}, {advice}")
        names.add(entry.path)
    for entry in folders.entries(folder, SPLITS.values(), LABELS):
        if entry.path not in names:
            raise ValueError(f"expected only the images of {archive} in {folder}, {advice}: {entry.path}")


def provide(folder: Path) -> Path:
    """Make `folder` contain {train,val}/<wnid>/, and return it.

    It becomes a link to the user's folder, or the folder with the unpacked images of the user's archive. Raises
    FileExistsError if another folder exists there.
    """
    given = user_copy()
    root = folders.root(given, SPLITS.values()).resolve() if given.is_dir() else None
    if root:
        folders.check(root, SPLITS.values(), LABELS)
    if folder.is_symlink():
        folder.unlink()
    if not root:
        unpack(given, folder)
    elif folder.exists():
        raise FileExistsError(f"expected nothing or a link at {folder}, which is to lead to {root}; move it away")
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(root, target_is_directory=True)
    return folder


def index(root: Path, split: str) -> dict:
    """Return a list of the images of "train" or "test" in columns, without decoding them.

    The columns are path from `root`, wnid, label and file size in bytes. The rows are in the order of `folders.order`.
    The entries `source` and `missing` are those of `ImageSet`. Raises ValueError if there are no images.
    """
    found = list(folders.entries(root, [SPLITS[split]], LABELS))
    rows = [found[index] for index in folders.order([entry.path for entry in found])]
    files = [entry.content for entry in rows if isinstance(entry.content, Path)]
    return {
        "source": SOURCE,
        "missing": missing(entry.path for entry in rows),
        "path": [file.relative_to(root).as_posix() for file in files],
        "wnid": [entry.folder for entry in rows],
        "label": [LABELS[entry.folder] for entry in rows],
        "bytes": [file.stat().st_size for file in files],
    }


def summary(split: str, y: list[int], absent: Collection[str]) -> str:
    """Return a line with the number of images in each super-class, and the missing classes."""
    counts = Counter(y)
    each = ", ".join(f"{name} {counts[label]}" for label, name in enumerate(SUPER_CLASSES))
    gone = f"{len(absent)} classes are not in it: {' '.join(absent)}" if absent else "no class is missing"
    return f"{split}: {len(y)} images ({each}), balanced up to {balanced_size(y)}; {gone}"


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the lists of training and test files to `out`.

    `raw` becomes a link to the images, or the folder with the unpacked ones.
    """
    root = provide(raw)
    for split in SPLITS:
        table = index(root, split)
        report(summary(split, table["label"], table["missing"]))
        on_disk.save(table, out / f"{split}.safetensors")
