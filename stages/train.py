"""Train the full-set models of one ball, every seed, on all cores; without --norm, standard training."""

import argparse
import shutil
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write models/<id>/seed<k>-natural<share>.safetensors and results/curves/<id>/, a learning curve each."""
    from robacc import params, sweep
    from robacc.files import whole, write_csv
    from robacc.training import Job, Recipe

    p = params.load()
    dataset = p.datasets[args.dataset]
    jobs = [
        Job(args.norm or "l2", args.eps, dataset.n_train, seed, fraction)
        for seed in range(dataset.n_seeds)
        for fraction in dataset.natural.at(args.norm, args.eps)
    ]
    files = sweep.train_all(
        jobs,
        train_set=Path("data") / args.dataset / "train.safetensors",
        recipe=Recipe(**p.recipe(args.dataset).model_dump()),
        settings=p.training.model_dump(),
        checkpoints=Path("checkpoints"),
        n_workers=cli.n_workers(),
    )
    name = params.model_id(args.dataset, args.norm, args.eps)
    for job, file in zip(jobs, files, strict=True):
        model = f"seed{job.seed}-natural{job.natural_fraction}"
        with whole(Path("models") / name / f"{model}.safetensors") as partial:
            shutil.copyfile(file, partial)
        write_csv(sweep.training_log(file), Path("results/curves") / name / f"{model}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "norm", "eps"))
