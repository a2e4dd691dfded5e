"""Compute a part of the balls and push it to the DVC remote, for `make collect`: `make share PART=2/3`."""

import argparse
import re
import subprocess

from robacc import params
from stages import cli, install, repro

OF_A_BALL = re.compile(r"(train|train_judges|size_sweep|evaluate|autoattack)(_[a-z0-9_]+)?@(?P<ball>.+)")


def of_part(stages: list[str], number: int, of: int) -> list[str]:
    """Return the stages of every of-th ball, in their order. A ball's stages stay together."""
    found = [(stage, match["ball"]) for stage in stages if (match := OF_A_BALL.fullmatch(stage))]
    balls = list(dict.fromkeys(ball for _, ball in found))
    mine = set(balls[number - 1 :: of])
    return [stage for stage, ball in found if ball in mine]


def main(args: argparse.Namespace) -> None:
    """Take from the remote what it has, compute the rest of this part, push."""
    with repro.alone() as checkout:
        params.load()
        repro.must_have_remote(to_write=True)
        listed = subprocess.run(["dvc", "stage", "list", "--name-only"], stdout=subprocess.PIPE, text=True, check=False)
        if listed.returncode:
            raise SystemExit(listed.returncode)
        stages = listed.stdout.split()
        checkout.dvc("repro", "--pull", "code", *(stage for stage in stages if stage.startswith("fetch")))
        mine = of_part(stages, *args.part)
        if not mine:
            raise ValueError(f"expected at most one part a ball, and part {args.part[0]} of {args.part[1]} has none")
        for stage in mine:
            checkout.dvc("repro", "--pull", "-s", stage)
        checkout.dvc("push", "--run-cache")


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("part", type=install.part)
    cli.run(main, arguments)
