"""Train the full-set models of one ball, every seed, on all cores."""

import argparse
import shutil
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write models/<dataset>-<ball>/seed<k>-natural<share>.safetensors, a learning curve each in results/curves/."""
    from robacc import params, plan
    from robacc.files import whole, write_csv
    from robacc.training import store

    p = params.load()
    jobs = plan.full_set(p.datasets[args.dataset], args.ball)
    files = store.train_all(
        jobs,
        train_set=Path("data") / args.dataset / "train.safetensors",
        recipe=plan.recipe(p, args.dataset),
        settings=p.training.model_dump(),
        checkpoints=Path("checkpoints"),
        n_workers=cli.n_workers(),
    )
    name = f"{args.dataset}-{args.ball}"
    for job, file in zip(jobs, files, strict=True):
        with whole(Path("models") / name / f"{job.name}.safetensors") as partial:
            shutil.copyfile(file, partial)
        write_csv(store.training_log(file), Path("results/curves") / name / f"{job.name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
