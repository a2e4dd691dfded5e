"""Train one ball at every smaller training-set size and measure standard accuracy on the test set."""

import argparse
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write results/sweep/<id>.csv: one row a trained model."""
    import torch

    from robacc import data, hardware, models, params, sweep
    from robacc.files import write_csv
    from robacc.training import Job, Recipe

    torch.set_num_threads(1)
    p = params.load()
    recipe = Recipe(**p.recipe(args.dataset).model_dump())
    sizes = p.datasets[args.dataset].sizes
    folder = Path("data") / args.dataset
    jobs = [Job(args.norm or "l2", args.eps, size, seed) for size, n_seeds in sizes for seed in range(n_seeds)]
    files = sweep.train_all(
        jobs,
        train_set=folder / "train.safetensors",
        recipe=recipe,
        settings=p.training.model_dump(),
        checkpoints=Path("checkpoints"),
        n_workers=cli.n_workers(),
    )
    x, y = data.load(folder / "test.safetensors").first()
    rows = []
    for job, file in zip(jobs, files, strict=True):
        model, spec = models.load(file)
        model = hardware.answering(model, p.training.hardware)
        steps = recipe.n_steps(job.n_train)
        rows.append(
            {
                "n_train": job.n_train,
                "seed": job.seed,
                "n": len(y),
                "n_correct": int((models.predict(model, x) == y).sum()),
                "steps": steps,
                "epochs": steps * recipe.batch_size / job.n_train,
                "subset_sha256": spec["subset"],
            }
        )
    write_csv(rows, Path("results/sweep") / f"{params.model_id(args.dataset, args.norm, args.eps)}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "norm", "eps"))
