"""Fetch a data set, check it, and store it as one file a split: of tensors, or for large images the list of files."""

import argparse
from pathlib import Path

from stages import cli


def mnist(out: Path, _: list[str] | None) -> None:
    """Store MNIST. Its files have one content wherever they come from, so that is not recorded."""
    from robacc import data, fetching

    source = fetching.fetch(data.RAW / "mnist", fetching.mnist_sources(), fetching.MNIST_SHA256)
    print(f"mnist from {source}")
    for split, raw_split in {"train": "train", "test": "t10k"}.items():
        data.save(*fetching.read_mnist(data.RAW / "mnist", raw_split), out / f"{split}.safetensors")


def cifar10(out: Path, _: list[str] | None) -> None:
    """Store CIFAR-10, with the kind of its source."""
    from robacc import cifar10, data

    name, kind, splits = cifar10.get(data.RAW / "cifar10", n_workers=cli.n_workers(), report=print)
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
    """Store the list of Restricted ImageNet's files, and a link to the user's folder, or what an archive holds."""
    from robacc import data, image_files, restricted_imagenet

    raw = data.RAW / "restricted_imagenet"
    root = restricted_imagenet.provide(raw, wnids)
    for split in restricted_imagenet.SPLITS:
        index = restricted_imagenet.index(root, split, wnids)
        print(restricted_imagenet.summary(split, index["label"], index["missing"]))
        image_files.save(index, out / f"{split}.safetensors")


MAKERS = {make.__name__: make for make in (mnist, cifar10, restricted_imagenet_64, restricted_imagenet)}


def main(args: argparse.Namespace) -> None:
    """Write data/<dataset>/train and test."""
    from robacc import params

    params.load()
    wnids = args.wnids.read_text().split() if args.wnids else None
    MAKERS[args.dataset](Path("data") / args.dataset, wnids)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, "dataset")
    arguments.add_argument("--wnids", type=Path, help="file with the ImageNet classes to use; without it all 203")
    cli.run(main, arguments)
