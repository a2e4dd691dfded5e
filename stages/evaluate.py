"""Evaluate the full-set models of one ball: standard accuracy, robust accuracy over a grid of eps, and checks."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robacc import plan
from robacc.balls import Ball
from robacc.params import Dataset, Evaluate
from robacc.training.jobs import model_name
from stages import cli


@dataclass(frozen=True)
class Task:
    """One trained model, another of the next seed from which attacks are transferred, and the balls.

    Without balls, only standard accuracy is measured.
    """

    file: Path
    other: Path
    seed: int
    natural_fraction: float
    norm: str
    eps_grid: list[float]

    def __str__(self) -> str:
        attacked = f" in {self.norm} up to {max(self.eps_grid)}" if self.eps_grid else ", standard accuracy"
        return f"{self.file.parent.name}/{self.file.stem}{attacked}"


def evaluate_one(  # noqa: ANN201
    task: Task,
    on_progress,  # noqa: ANN001
    *,
    test_set: Path,
    sample_seed: int,
    settings: Evaluate,
    device: str,
):
    """Return the model's outcomes and the attack's checks, which are None without an attack."""
    from robacc.attack import evaluation
    from robacc.images import loading, sample
    from robacc.nets import model as nets
    from robacc.training import hardware

    model = hardware.for_evaluation(nets.load(task.file)[0], device)
    other = hardware.for_evaluation(nets.load(task.other)[0], device) if task.other != task.file else None
    test = loading.load(test_set)
    if not task.eps_grid:
        on_progress(1)
        return evaluation.standard(model, test, test.y, n_checked=settings.n_checked), None
    order = sample.balanced_order(test.y, seed=sample_seed)
    counts = {"n_robust": settings.n_images, "n_checked": settings.n_checked, "seed": settings.seed}
    result = evaluation.evaluate(
        model, test, test.y, task.norm, task.eps_grid, settings.attack, order=order, other=other, **counts
    )
    on_progress(len(task.eps_grid))
    return result


def tasks(ball: Ball, folder: Path, dataset: Dataset, settings: Evaluate) -> list[Task]:
    """Return what is to be done: models trained half and half only at their own eps, standard ones in every norm.

    Seeds that are not attacked come last.
    """

    def file(seed: int, fraction: float) -> Path:
        return folder / f"{model_name(seed, fraction)}.safetensors"

    found = []
    attacked = plan.attacked(dataset.seeds, ball)
    for fraction in plan.natural_fractions(dataset.natural, ball):
        for norm, test_eps in settings.eps.items() if ball.is_standard else [(ball.norm, settings.eps[ball.norm])]:
            grid = [ball.eps] if fraction else sorted({*test_eps, ball.eps} - {0.0})
            for seed, following in zip(attacked, [*attacked[1:], attacked[0]], strict=True):
                found.append(Task(file(seed, fraction), file(following, fraction), seed, fraction, norm, grid))
    rest = plan.seeds(dataset.seeds, ball)[len(attacked) :]
    return found + [Task(file(seed, 0.0), file(seed, 0.0), seed, 0.0, ball.norm, []) for seed in rest]


def main(args: argparse.Namespace) -> None:
    """Write results/evaluate/<dataset>-<ball>/: accuracy.csv, checks.csv, and outcomes.npz with every example."""
    from robacc import params
    from robacc.files import write_arrays, write_csv
    from robacc.parallel import parallel

    p = params.load()
    settings, dataset = p.evaluate[args.dataset], p.datasets[args.dataset]
    name = f"{args.dataset}-{args.ball}"
    models = tasks(args.ball, Path("models") / name, dataset, settings)
    test_set, units = Path("data") / args.dataset / "test.safetensors", [len(task.eps_grid) or 1 for task in models]
    given = {"test_set": test_set, "sample_seed": dataset.sample_seed, "settings": settings}
    work = partial(evaluate_one, **given, device=p.training.hardware)
    results = parallel(work, models, units=units, unit="eps", n_workers=cli.n_workers())
    rows, checks, arrays = [], [], {"y": results[0][0].y.numpy()}
    for task, (outcomes, measures) in zip(models, results, strict=True):
        model = {"seed": task.seed, "natural_fraction": task.natural_fraction}
        rows += [{**model, **row} for row in outcomes.counts()]
        if measures is not None:
            checks.append({**model, "norm": task.norm, **measures})
        arrays.update({f"{task.file.stem}-{key}": values.numpy() for key, values in outcomes.arrays().items()})
    folder = Path("results/evaluate") / name
    write_csv(rows, folder / "accuracy.csv")
    write_csv(checks, folder / "checks.csv")
    write_arrays(arrays, folder / "outcomes.npz")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
