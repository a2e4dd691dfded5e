"""Fetch a data set, check it, and store it as one file a split: of tensors, or for large images the list of files."""

import argparse
from functools import partial
from importlib import import_module
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write data/<dataset>/train and test; data/incoming/<dataset>/ keeps the raw files."""
    source = import_module(f"robacc.sources.{args.dataset}")
    folder, report = Path("data"), partial(print, flush=True)
    source.store(folder / args.dataset, folder / "incoming" / args.dataset, n_workers=cli.n_workers(), report=report)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
