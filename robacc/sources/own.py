"""Look at a user's own images, {train,test}/<class>/ of PNG or JPEG or the four IDX files, and store them."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from robacc.datasets import own
from robacc.images import folders, in_memory, picture
from robacc.images.fetching import from_mirror
from robacc.images.loading import load
from robacc.sources import mnist

SPLITS = ("train", "test")
NAMES = "classes.txt"  # beside IDX files, which have no names of classes: one on each line
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "La")  # PIL's modes
LONGEST = 60  # characters of a name


class Found(NamedTuple):
    """The images of both splits, the names of their classes, and in words what they were made of."""

    images: dict[str, tuple[Tensor, Tensor]]
    classes: list[str]
    form: str


@dataclass
class Survey:
    """What the headers of the images say: numbers by class and split, colour, and sides in pixels."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    colour: bool = False
    shortest: list[int] = field(default_factory=list)
    largest: int = 0

    def size(self, wanted: int | str) -> int:
        """Return the pixels of a side to which the images are resized: `wanted`, or for "auto" what suits them."""
        if isinstance(wanted, int):
            return wanted
        middle = sorted(self.shortest)[len(self.shortest) // 2]
        if middle <= 28 and not self.colour:
            return 28
        return 32 if middle < 48 else 64


def survey(source: Path) -> Survey:
    """Read the header of every image in a folder or archive.

    Raises the errors of `folders.entries`, and ValueError with its name for what is no image.
    """
    seen = Survey()
    for entry in folders.entries(source, SPLITS, None):
        try:
            mode, size = picture.header(entry.content)
        except picture.UnreadableError as error:
            raise ValueError(f"expected an image at {entry.path}, got: {error}; replace or remove it") from error
        seen.counts[entry.split, entry.folder] += 1
        seen.colour |= mode not in GREY
        seen.shortest.append(min(size))
        seen.largest = max(seen.largest, *size)
    return seen


def check_classes(classes: list[str], counts: Mapping[tuple[str, str], int]) -> None:
    """Raise ValueError unless there are two classes or more, each in both splits and with a name that can be shown."""
    for split, other in (SPLITS, SPLITS[::-1]):
        lacking = [name for name in classes if not counts.get((split, name))]
        if lacking:
            named = ", ".join(map(repr, lacking[:5]))
            raise ValueError(
                f"expected {split} images of every class, got none of {named}; add some, or take them out of {other}"
            )
    if len(classes) < 2:
        raise ValueError(f"expected two classes or more, got {', '.join(classes)}; each needs a folder of its own")
    for name in classes:
        if not name.isprintable() or len(name) > LONGEST or "$" in name:
            wanted = f"at most {LONGEST} printable characters without $"
            raise ValueError(f"expected the name of a class to have {wanted}, got {name!r}; rename it")
    n_train = sum(counts[SPLITS[0], name] for name in classes)
    if n_train < own.FEWEST:
        raise ValueError(f"expected {own.FEWEST} training images or more, got {n_train}; add some")


def read_tree(source: Path, wanted: int | str, *, n_workers: int, report: Callable[[str], None]) -> Found:
    """Return the images of a folder or archive [<top>/]{train,test}/<class>/<image>.

    A class is a folder, and classes are in the order of their names. Raises ValueError for what cannot be used.
    """
    seen = survey(source)
    classes = sorted({name for _, name in seen.counts})
    check_classes(classes, seen.counts)
    size = seen.size(wanted)
    grey = own.FORMS[size].facts.channels == 1
    labels = {name: label for label, name in enumerate(classes)}
    splits = folders.read(
        source,
        labels,
        splits=SPLITS,
        size=size,
        resize=True,
        grey=grey,
        upright=True,
        n_workers=n_workers,
        report=report,
    )
    low, high = min(seen.shortest), seen.largest
    form = f"of {low} pixels" if low == high else f"of {low} to {high} pixels"
    form += f", resized to {size}" if (low, high) != (size, size) else ""
    if grey != (not seen.colour):
        form += ", in grey" if grey else ", grey ones with three equal channels"
    return Found({name: (split.x, split.y) for name, split in splits.items()}, classes, form)


def read_idx(folder: Path, wanted: int | str) -> Found:
    """Return the images of the four IDX files in `folder`, plain or packed, as MNIST and Fashion-MNIST have them.

    Their classes have the names in `NAMES`, or numbers. Raises ValueError for what cannot be used.
    """
    if wanted not in ("auto", 28):
        raise ValueError(f"expected own.size to be 28 or auto, as IDX files have 28 pixels, got {wanted}")
    with tempfile.TemporaryDirectory() as plain:
        for name, content in from_mirror(str(folder), mnist.PLACES)():
            (Path(plain) / name).write_bytes(content)
        images = {ours: mnist.read(Path(plain), theirs) for ours, theirs in zip(SPLITS, ("train", "t10k"), strict=True)}
    n_classes = 1 + max(int(y.max()) if len(y) else 0 for _, y in images.values())
    classes = [str(label) for label in range(n_classes)]
    if (folder / NAMES).is_file():
        classes = (folder / NAMES).read_text(encoding="utf-8").split("\n")
        classes = [name.strip() for name in classes if name.strip()]
        if len(classes) != n_classes or len(set(classes)) != n_classes:
            raise ValueError(
                f"expected {n_classes} different names in {folder / NAMES}, got {len(classes)}; correct it"
            )
    counts = {
        (split, name): int((y == label).sum()) for split, (_, y) in images.items() for label, name in enumerate(classes)
    }
    check_classes(classes, counts)
    return Found(images, classes, "of 28 pixels")


def twins(images: Mapping[str, tuple[Tensor, Tensor]]) -> int:
    """Return the number of test images that equal a training image in every pixel."""
    train = {x.numpy().tobytes() for x in images["train"][0]}
    return sum(x.numpy().tobytes() in train for x in images["test"][0])


def read(source: Path, size: int | str, *, n_workers: int, report: Callable[[str], None]) -> tuple[Found, dict]:
    """Return the user's images, `size` pixels a side or as "auto" has it, and the content of own.json for them.

    `report` gets the number of images of each class. Raises OSError or ValueError for what cannot be used.
    """
    if size not in ("auto", *own.FORMS):
        raise ValueError(f"expected own.size to be auto, {', '.join(map(str, own.FORMS))}, got {size!r}")
    is_idx = source.is_dir() and any(source.rglob("train-images*idx3-ubyte*"))
    found = read_idx(source, size) if is_idx else read_tree(source, size, n_workers=n_workers, report=report)
    counts = {split: torch.bincount(y, minlength=len(found.classes)) for split, (_, y) in found.images.items()}
    for split in SPLITS:
        each = ", ".join(f"{name} {n}" for name, n in zip(found.classes, counts[split].tolist(), strict=True))
        report(f"{split}: {int(counts[split].sum()):,} images ({each})")
    form = found.form
    if n_twins := twins(found.images):
        form += f"; {n_twins:,} test images equal a training image"
    report(f"images {form}")
    mean, std = colours(found.images["train"][0])
    return found._replace(form=form), {
        "name": title(source),
        "classes": found.classes,
        "size": found.images["train"][0].shape[-1],
        "counts": {split: int(of.sum()) for split, of in counts.items()},
        "fewest": int(counts["test"].min()),
        "mean": mean,
        "std": std,
        "sha256": {split: in_memory.content_hash(*found.images[split]) for split in SPLITS},
    }


def colours(x: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the pixels [N, C, H, W] in each channel, a deviation at least 0.01."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = [torch.bincount(x[:, channel].flatten(), minlength=256) / x[:, 0].numel() for channel in range(x.shape[1])]
    means = [float(share.double() @ levels) for share in shares]
    deviations = [
        float(share.double() @ (levels - mean) ** 2) ** 0.5 for share, mean in zip(shares, means, strict=True)
    ]
    return [round(mean, 4) for mean in means], [max(round(deviation, 4), 0.01) for deviation in deviations]


def title(source: Path) -> str:
    """Return the name of the user's folder or archive, as the report shows it."""
    name = source.resolve().name
    for suffix in (".gz", ".tar", ".tgz", ".zip"):
        name = name.removesuffix(suffix)
    shown = "".join(letter if letter.isprintable() and letter not in "$|<>&`\\" else " " for letter in name)
    return " ".join(shown.split())[:LONGEST] or "images"


def keep(found: Found, name: str, raw: Path) -> None:
    """Write the images to `raw`, from which the stage `fetch` takes them."""
    for split, (x, y) in found.images.items():
        in_memory.save(x, y, raw / f"{split}.safetensors", source=f"the user's own images ({name}), {found.form}")


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the splits train and test, which `make own` left in `raw`, to `out`.

    Raises OSError or ValueError if they are not there, or are not those that own.json describes.
    """
    advice = "name {train,test}/<class>/ in ROBACC_IMAGES and run `make own`"
    for split, expected in own.read()["sha256"].items():
        file = raw / f"{split}.safetensors"
        if not file.exists():
            raise FileNotFoundError(f"expected your images at {file}, found none; {advice}")
        images = load(file)
        assert isinstance(images, in_memory.Images)
        if images.sha256 != expected:
            raise ValueError(f"expected the images of {own.FILE.name} at {file}, got others; {advice}")
        in_memory.save(images.x, images.y, out / file.name, source=images.source)
        report(f"own: {split}, {len(images):,} images, from {images.source}")
