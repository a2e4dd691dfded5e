"""What all stages share on the command line. Imports no torch, so that --help answers at once."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from robacc import balls, machine, params
from robacc.datasets import facts
from stages import identity

# Errors of the user's making: one line, no traceback.
USER_ERRORS = (params.ParamsError, FileNotFoundError, OSError, ValueError, AssertionError, FloatingPointError)

# What to lower in params.yaml where memory runs out in a stage itself, and what to do for the other stages.
LESS = {
    "theory": "lower theory.d, theory.n_test, theory.fit.n_train or theory.monte_carlo.n in params.yaml",
    "linear": "lower linear.noise.n_features or linear.noise.sizes in params.yaml",
    "visualize": "lower visualize.<data set>.n_training or n_images in params.yaml",
}
OTHERWISE = "close other programs"
KERNELS = Path(__file__).resolve().parent.parent / "robacc/nets/__pycache__"


def _ball(word: str) -> balls.Ball:
    try:
        return balls.parse(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser(doc: str | None, *options: str, needs_dataset: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the named ones of --dataset and --ball."""
    arguments = argparse.ArgumentParser(description=doc)
    known = {
        "dataset": {"required": needs_dataset, "choices": facts.NAMES},
        "ball": {"required": True, "type": _ball, "help": "standard, or norm and eps of adversarial training: l2-1.5"},
    }
    for option in options:
        arguments.add_argument(f"--{option}", **known[option])  # type: ignore[arg-type]
    return arguments


def run(main: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser) -> None:
    """Parse the command line and call `main`; turn an error of the user's into one line and exit code 1."""
    args = arguments.parse_args()
    stage = Path(sys.argv[0]).stem
    if "DVC_STAGE" in os.environ:  # not a command of the user's own, which may outlive the shell that started it
        machine.end_with_parent(
            f"{stage}: DVC was killed, so the stage ends; `dvc repro` goes on from the last checkpoints"
        )
    machine.remove_half_written_kernels(KERNELS)
    dataset = getattr(args, "dataset", None)
    of_graph = stage in {name for name, _ in identity.every_stage()}
    try:
        if of_graph:
            identity.check(stage, dataset, params.load())
        main(args)
        if of_graph and (stage == "figures" or sys.platform != "linux"):
            # Kernels, and workers that are not forked, read files after the first check.
            identity.check(stage, dataset, params.load())
    except USER_ERRORS as error:
        if os.environ.get("ROBACC_TRACEBACK"):
            raise
        sys.exit(f"{stage}: {error}")
    except (MemoryError, RuntimeError) as error:  # of a worker it comes as an error that names its item
        if os.environ.get("ROBACC_TRACEBACK") or not machine.is_of_memory(error):
            raise
        said = " ".join(str(error).split()) or "none"
        sys.exit(f"{stage}: expected memory, got {said}; {LESS.get(stage, OTHERWISE)}, and run again")
    except KeyboardInterrupt:
        sys.exit(f"{stage}: interrupted; the same command goes on from the last checkpoints")


def n_workers() -> int:
    """Return how many jobs run side by side: ROBACC_WORKERS, or the number of usable cores.

    Not in params.yaml, as no result depends on it.
    """
    text = os.environ.get("ROBACC_WORKERS")
    if text is None:
        return machine.usable_cores()
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"expected ROBACC_WORKERS to be a number of processes above 0, got {text!r}")
    return int(text)
