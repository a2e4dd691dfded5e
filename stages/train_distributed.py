"""Train one full-set model with several processes, on the GPUs of one or more hosts; started by torchrun.

    torchrun --nproc-per-node 8 -m stages.train_distributed --dataset mnist --ball l2-1.5 --seed 100

On several hosts run the same command on each, with these options before -m:

    --nnodes 2 --rdzv-backend c10d --rdzv-endpoint <first host>:29400 --max-restarts 5

Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 as well: without it torchrun 2.14 does not let a host come back.
`--nnodes 1:2` goes on with the hosts that remain. Checkpoints are on the disk of rank 0's host. torchrun may give
that rank to another host after a restart, so surviving the loss of any host needs a shared disk.

The finished model is kept in checkpoints/ under the key with which the stages look for it. `dvc repro` takes it as
it is. The same command goes on from the last checkpoint.
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
    from robacc import params, plan
    from robacc.images import loading
    from robacc.training import distributed, store
    from robacc.training.hardware import device_type
    from robacc.training.jobs import Job
    from robacc.training.train import n_steps

    p = params.load()
    job = Job(args.ball, args.n_train or p.datasets[args.dataset].n_train, args.seed, args.natural)
    recipe, train_set = plan.recipe(p, args.dataset), Path("data") / args.dataset / "train.safetensors"
    code = store.training_code(recipe, loading.load(train_set))
    with distributed.group(device_type(p.training.hardware)) as world:
        lines = progress_lines(n_steps(recipe, job.n_train), p.training.log_every)
        file, is_new = store.train_one(
            job,
            lines if world.rank == 0 else lambda steps: None,
            train_set=train_set,
            recipe=recipe,
            settings=p.training.model_dump(),
            checkpoints=Path("checkpoints"),
            code=code,
            world=world,
        )
        if world.rank == 0:
            print(f"{job}: {'trained' if is_new else 'finished already'}, {world.size} processes, {file}", flush=True)


if __name__ == "__main__":
    arguments = cli.parser(__doc__, "dataset", "ball")
    arguments.add_argument("--seed", type=int, required=True, help="of the model; see `seeds` in params.yaml")
    arguments.add_argument("--natural", type=float, default=0.0, help="share of each batch left natural")
    arguments.add_argument("--n-train", type=int, help="number of images; without it the full set")
    cli.run(main, arguments)
