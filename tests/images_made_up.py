"""Made-up images, and trees of them as a user has them: for the tests of fetching and decoding."""

import io
import tarfile
from pathlib import Path

from PIL import Image

from robacc.datasets import facts

DOG, TABBY, FROG = "n02085620", "n02123045", "n01641577"
TENCH = "n01440764"  # in ImageNet, but not in Restricted ImageNet


def picture(value: int, width: int = 8, height: int = 8, form: str = "PNG", mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    rgb = (value % 256, value // 256, 255)
    colour = {"RGB": rgb, "L": value, "CMYK": (value, 0, 0, 0), "RGBA": (*rgb, 255)}[mode]
    Image.new(mode, (width, height), colour).save(content, form)
    return content.getvalue()


def put(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack(files: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def cifar10(form: str = "PNG", n: int = 2) -> dict[str, bytes]:
    """A user's tree of CIFAR-10: `n` images a class and split, whose red is 20 times the label."""
    classes = list(enumerate(facts.of("cifar10").classes))
    return {
        f"{split}/{name}/{i:04}.{form.lower()}": picture(20 * label, 32, 32, form)
        for split in ("train", "test")
        for label, name in classes
        for i in range(n)
    }


def imagenet() -> dict[str, bytes]:
    """A user's copy of ImageNet: two images a class and split, of three of our classes and the tench."""
    wnids = (DOG, TABBY, FROG, TENCH)
    names = [f"{split}/{wnid}/{wnid}_{i}.JPEG" for split in ("train", "val") for wnid in wnids for i in range(2)]
    return {name: picture(len(name), 90, 70, "JPEG") for name in names}
