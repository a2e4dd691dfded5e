"""Fetch a data set, check it, and store it as one file of tensors a split."""

import argparse
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write data/<dataset>/train.safetensors and test.safetensors."""
    from robacc import data, fetching, params

    params.load()
    raw = Path("data/incoming") / args.dataset
    source = fetching.fetch(raw, fetching.mnist_sources(), fetching.MNIST_SHA256)
    print(f"{args.dataset} from {source}")
    for split, raw_split in {"train": "train", "test": "t10k"}.items():
        x, y = fetching.read_mnist(raw, raw_split)
        data.save(x, y, Path("data") / args.dataset / f"{split}.safetensors")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
