"""Fetch a data set, check it, and store it as one file a split: of tensors, or for large images the list of files."""

import argparse
from pathlib import Path

from stages import cli

RAW = Path("data/incoming")  # what was downloaded, put there by hand, or unpacked


def mnist(out: Path, _: list[str] | None) -> None:
    """Store MNIST. Its files have one content wherever they come from, so that is not recorded."""
    from robacc import data, fetching

    source = fetching.fetch(RAW / "mnist", fetching.mnist_sources(), fetching.MNIST_SHA256)
    print(f"mnist from {source}")
    for split, raw_split in {"train": "train", "test": "t10k"}.items():
        data.save(*fetching.read_mnist(RAW / "mnist", raw_split), out / f"{split}.safetensors")


def cifar10(out: Path, _: list[str] | None) -> None:
    """Store CIFAR-10, with the kind of its source."""
    from robacc import cifar10, data

    name, kind, splits = cifar10.get(RAW / "cifar10", n_workers=cli.n_workers(), report=print)
    print(f"cifar10 from {name}: {kind}")
    for split, (x, y) in splits.items():
        data.save(x, y, out / f"{split}.safetensors", source=kind)


def restricted_imagenet_64(out: Path, wnids: list[str] | None) -> None:
    """Store Restricted ImageNet at 64 pixels."""
    from robacc import data, restricted_imagenet

    source = restricted_imagenet.user_copy()
    workers = cli.n_workers()
    splits = restricted_imagenet.small_images(source, wnids, size=64, n_workers=workers, report=print)
    for split, (x, y, paths) in splits.items():
        absent = restricted_imagenet.missing(paths, wnids)
        print(restricted_imagenet.summary(split, y, absent))
        data.save(x, y, out / f"{split}.safetensors", source=restricted_imagenet.SOURCE, missing=absent)


def restricted_imagenet(out: Path, wnids: list[str] | None) -> None:
    """Store the list of Restricted ImageNet's files; unpack them first if they are in an archive."""
    from robacc import files, restricted_imagenet

    unpacked = RAW / "restricted_imagenet"
    if not (source := restricted_imagenet.user_copy()).is_dir():
        restricted_imagenet.unpack(source, unpacked, wnids)
    root = restricted_imagenet.images_root(unpacked)
    for split in restricted_imagenet.SPLITS:
        index = restricted_imagenet.index(root, split, wnids)
        print(restricted_imagenet.summary(split, index["label"], index["missing"]))
        files.write_json(index, out / f"{split}.json")


MAKERS = {make.__name__: make for make in (mnist, cifar10, restricted_imagenet_64, restricted_imagenet)}


def main(args: argparse.Namespace) -> None:
    """Write data/<dataset>/train and test."""
    from robacc import params

    params.load()
    wnids = args.wnids.read_text().split() if args.wnids else None
    MAKERS[args.dataset](Path("data") / args.dataset, wnids)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, "dataset", datasets=MAKERS)
    arguments.add_argument("--wnids", type=Path, help="file with the ImageNet classes to use; without it all 203")
    cli.run(main, arguments)
