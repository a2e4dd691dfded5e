"""Train the two judges of large-eps examples, one standard and one robust, on a seed of their own."""

import argparse
import shutil
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write models/<dataset>-judges/standard.safetensors and robust.safetensors."""
    from robacc import params, sweep
    from robacc.files import whole
    from robacc.training import Job, Recipe

    p = params.load()
    judges, n_train = p.visualize[args.dataset].judges, p.datasets[args.dataset].n_train
    jobs = {
        "standard": Job(judges.norm, 0.0, n_train, judges.seed),
        "robust": Job(judges.norm, judges.eps, n_train, judges.seed),
    }
    files = sweep.train_all(
        list(jobs.values()),
        train_set=Path("data") / args.dataset / "train.safetensors",
        recipe=Recipe(**p.recipe(args.dataset).model_dump()),
        settings=p.training.model_dump(),
        checkpoints=Path("checkpoints"),
        n_workers=cli.n_workers(),
    )
    for name, file in zip(jobs, files, strict=True):
        with whole(Path("models") / f"{args.dataset}-judges" / f"{name}.safetensors") as partial:
            shutil.copyfile(file, partial)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
