"""What all stages share on the command line. Imports no torch, so that --help answers at once."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from robacc import params

# Errors of the user's making: one line, no traceback.
USER_ERRORS = (params.ParamsError, FileNotFoundError, OSError, ValueError, AssertionError, FloatingPointError)


DATASETS: tuple[str, ...] = get_args(params.DatasetName)


def parser(doc: str | None, *options: str, needs_dataset: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the named ones of --dataset, --norm, --eps, --notebooks."""
    arguments = argparse.ArgumentParser(description=doc)
    known = {
        "dataset": {"required": needs_dataset, "choices": list(DATASETS)},
        "norm": {"choices": ["l2", "linf"], "help": "of adversarial training; without it, standard training"},
        "eps": {"type": float, "default": 0.0, "help": "radius of the training ball, images being in [0, 1]"},
        "notebooks": {"required": True, "nargs": "+", "help": "names in notebooks/, without .ipynb"},
    }
    for option in options:
        arguments.add_argument(f"--{option}", **known[option])  # type: ignore[arg-type]
    return arguments


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser) -> None:
    """Parse the command line and call `main`; turn an error of the user's into one line and exit code 1."""
    args = arguments.parse_args()
    if "eps" in args and (args.norm is None) != (args.eps == 0):
        arguments.error(f"expected both --norm and an --eps above 0, or neither, got {args.norm} and {args.eps}")
    try:
        main(args)
    except USER_ERRORS as error:
        if os.environ.get("ROBACC_TRACEBACK"):
            raise
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).stem}: interrupted; the same command goes on from the last checkpoints")


def n_workers() -> int:
    """Return how many jobs run side by side: ROBACC_WORKERS, or the number of usable cores.

    Not in params.yaml, as no result depends on it.
    """
    text = os.environ.get("ROBACC_WORKERS")
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"expected ROBACC_WORKERS to be a number of processes above 0, got {text!r}")
    return int(text)
