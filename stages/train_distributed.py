"""Train one full-set model with several processes, on the GPUs of one or more hosts; started by torchrun.

    torchrun --nproc-per-node 8 -m stages.train_distributed --dataset mnist --norm l2 --eps 1.5 --seed 0

On several hosts: the same command on each, with `--nnodes 2 --rdzv-backend c10d --rdzv-endpoint <first host>:29400
--max-restarts 5` before -m, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment, without which torchrun 2.14
does not let a host come back. `--nnodes 1:2` goes on with the hosts that are left. Checkpoints are on the
disk of rank 0's host; torchrun may give that rank to another after a restart, so surviving any host needs a shared one.

The finished model is kept in checkpoints/ under the key with which the stages look for it, so that `dvc repro`
afterwards takes it as it is. The same command goes on from the last checkpoint.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from stages import cli


def progress_lines(n_steps: int, every: int) -> Callable[[int], None]:
    """Return what counts steps and prints a line every `every` ones: done, speed, time left."""
    begin, done, resumed = time.monotonic(), 0, -1

    def count(steps: int) -> None:
        nonlocal done, resumed
        done += steps
        if resumed < 0:
            resumed = steps  # the first call says where the run begins
        elif done % every == 0 or done == n_steps:
            rate = (done - resumed) / (time.monotonic() - begin)
            print(f"[{done}/{n_steps}] {rate:.2f} steps/s, {(n_steps - done) / rate:.0f} s left", flush=True)

    return count


def main(args: argparse.Namespace) -> None:
    """Write checkpoints/<key>.model, from the first process alone."""
    from robacc import distributed, params, sweep
    from robacc.hardware import device_type
    from robacc.training import Job, Recipe

    p = params.load()
    n_train = args.n_train or p.datasets[args.dataset].n_train
    job = Job(args.norm or "l2", args.eps, n_train, args.seed, args.natural)
    recipe = Recipe(**p.recipe(args.dataset).model_dump())
    with distributed.group(device_type(p.training.hardware)) as world:
        lines = progress_lines(recipe.n_steps(n_train), p.training.log_every)
        file, is_new = sweep.train_one(
            job,
            lines if world.rank == 0 else lambda steps: None,
            train_set=Path("data") / args.dataset / "train.safetensors",
            recipe=recipe,
            settings=p.training.model_dump(),
            checkpoints=Path("checkpoints"),
            world=world,
        )
        if world.rank == 0:
            print(f"{job}: {'trained' if is_new else 'finished already'}, {world.size} processes, {file}", flush=True)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, "dataset", "norm", "eps")
    arguments.add_argument("--seed", type=int, default=0, help="of the model; the stages train 0, 1, ...")
    arguments.add_argument("--natural", type=float, default=0.0, help="share of each batch left natural")
    arguments.add_argument("--n-train", type=int, help="number of images; without it the full set")
    cli.run(main, arguments)
