"""Attack the full-set models of one ball: standard accuracy, robust accuracy over a grid of eps, and checks."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robacc.params import Dataset, Evaluate, model_id
from stages import cli


@dataclass(frozen=True)
class Job:
    """One trained model, another of the next seed from which attacks are transferred, and the balls."""

    file: Path
    other: Path
    seed: int
    natural_fraction: float
    norm: str
    eps_grid: list[float]

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.stem} in {self.norm} up to {max(self.eps_grid)}"


def evaluate_one(job: Job, on_progress, *, test_set: Path, settings: Evaluate, device: str):  # noqa: ANN001, ANN201
    """Return the model's outcomes and the attack's checks."""
    from robacc import adversary, data, evaluation, hardware, models

    model = hardware.answering(models.load(job.file)[0], device)
    other = hardware.answering(models.load(job.other)[0], device) if job.other != job.file else None
    x, y = data.load(test_set).first()
    attack = adversary.Attack(**settings.attack.model_dump())
    counts = {"n_robust": settings.n_images, "n_checked": settings.n_checked, "seed": settings.seed}
    result = evaluation.evaluate(model, x, y, job.norm, job.eps_grid, attack, other=other, **counts)
    on_progress(len(job.eps_grid))
    return result


def plan(args: argparse.Namespace, folder: Path, dataset: Dataset, settings: Evaluate) -> list[Job]:
    """Return the jobs: models trained half and half only at their own eps, standard ones in both norms."""
    jobs = []
    for fraction in dataset.natural.at(args.norm, args.eps):
        files = [folder / f"seed{seed}-natural{fraction}.safetensors" for seed in range(dataset.n_seeds)]
        for norm in [args.norm] if args.norm else ["l2", "linf"]:
            grid = [args.eps] if fraction else sorted({*getattr(settings.eps, norm), args.eps} - {0.0})
            for seed, file in enumerate(files):
                jobs.append(Job(file, files[(seed + 1) % len(files)], seed, fraction, norm, grid))
    return jobs


def main(args: argparse.Namespace) -> None:
    """Write results/evaluate/<id>/: accuracy.csv, checks.csv, and outcomes.npz with every example."""
    from robacc import params, sweep
    from robacc.files import write_arrays, write_csv

    p = params.load()
    settings = p.evaluate[args.dataset]
    name = model_id(args.dataset, args.norm, args.eps)
    jobs = plan(args, Path("models") / name, p.datasets[args.dataset], settings)
    test_set, units = Path("data") / args.dataset / "test.safetensors", [len(job.eps_grid) for job in jobs]
    work = partial(evaluate_one, test_set=test_set, settings=settings, device=p.training.hardware)
    results = sweep.parallel(work, jobs, units=units, unit="eps", n_workers=cli.n_workers())
    rows, checks, arrays = [], [], {}
    for job, (outcomes, measures) in zip(jobs, results, strict=True):
        model = {"seed": job.seed, "natural_fraction": job.natural_fraction}
        rows += [{**model, **row} for row in outcomes.counts()]
        checks.append({**model, "norm": job.norm, **measures})
        arrays.update({f"{job.file.stem}-{key}": values.numpy() for key, values in outcomes.arrays().items()})
    folder = Path("results/evaluate") / name
    write_csv(rows, folder / "accuracy.csv")
    write_csv(checks, folder / "checks.csv")
    write_arrays(arrays, folder / "outcomes.npz")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "norm", "eps"))
