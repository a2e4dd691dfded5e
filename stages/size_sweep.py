"""Train one ball at every smaller training-set size and measure standard accuracy on the test set."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages import cli


@dataclass(frozen=True)
class Trained:
    """A trained model and where it is."""

    name: str
    file: Path

    def __str__(self) -> str:
        return f"standard accuracy: {self.name}"


def right(trained: Trained, on_progress, *, test_set: Path, device: str):  # noqa: ANN001, ANN201
    """Return on which test images a model is right, bool [images], and the hash of its training set."""
    import torch

    from robacc.attack.answers import parts
    from robacc.images import loading
    from robacc.nets import model as nets
    from robacc.training import hardware

    model, spec = nets.load(trained.file)
    model, test = hardware.for_evaluation(model, device), loading.load(test_set)
    correct = torch.cat([nets.predict(model, x) == y for x, y in parts(test, test.y)]).numpy()
    on_progress(1)
    return correct, spec["subset"]


def main(args: argparse.Namespace) -> None:
    """Write results/sweep/<dataset>-<ball>/: accuracy.csv, a row a trained model, and outcomes.npz, every example."""
    from robacc import params, plan
    from robacc.files import write_arrays, write_csv
    from robacc.parallel import parallel
    from robacc.training import store
    from robacc.training.train import n_steps

    p = params.load()
    recipe = plan.recipe(p, args.dataset)
    folder = Path("data") / args.dataset
    jobs = plan.smaller_sets(p.datasets[args.dataset], args.ball)
    files = store.train_all(
        jobs,
        train_set=folder / "train.safetensors",
        recipe=recipe,
        settings=p.training.model_dump(),
        checkpoints=Path("checkpoints"),
        n_workers=cli.n_workers(),
    )
    work = partial(right, test_set=folder / "test.safetensors", device=p.training.hardware)
    trained = [Trained(str(job), file) for job, file in zip(jobs, files, strict=True)]
    results = parallel(work, trained, units=[1] * len(trained), unit="models", n_workers=cli.n_workers())
    rows, arrays = [], {}
    for job, (correct, subset) in zip(jobs, results, strict=True):
        steps = n_steps(recipe, job.n_train)
        rows.append(
            {
                "n_train": job.n_train,
                "seed": job.seed,
                "n": len(correct),
                "n_correct": int(correct.sum()),
                "steps": steps,
                "epochs": steps * recipe.batch_size / job.n_train,
                "subset_sha256": subset,
            }
        )
        arrays[f"{job.n_train}-seed{job.seed}-correct"] = correct
    folder = Path("results/sweep") / f"{args.dataset}-{args.ball}"
    write_csv(rows, folder / "accuracy.csv")
    write_arrays(arrays, folder / "outcomes.npz")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
