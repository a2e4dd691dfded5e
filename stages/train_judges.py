"""Train the two judges of large-eps examples, one standard and one robust, on a seed of their own."""

import argparse
import shutil
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write models/<dataset>-judges/standard.safetensors and robust.safetensors."""
    from robacc import params, plan
    from robacc.files import whole
    from robacc.training import store

    p = params.load()
    jobs = plan.judges(p.visualize[args.dataset].judges, p.datasets[args.dataset].n_train)
    files = store.train_all(
        list(jobs.values()),
        train_set=Path("data") / args.dataset / "train.safetensors",
        recipe=plan.recipe(p, args.dataset),
        settings=p.training.model_dump(),
        checkpoints=Path("checkpoints"),
        n_workers=cli.n_workers(),
    )
    for name, file in zip(jobs, files, strict=True):
        with whole(Path("models") / f"{args.dataset}-judges" / f"{name}.safetensors") as partial:
            shutil.copyfile(file, partial)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
