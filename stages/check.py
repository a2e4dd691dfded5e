"""Check params.yaml before any work; `make repro` calls this first."""

import argparse

from robacc import params
from stages import cli


def main(_: argparse.Namespace) -> None:
    """Read params.yaml; an error says which value is wrong."""
    params.load()


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
