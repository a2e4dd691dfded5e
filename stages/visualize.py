"""Pictures and their numbers for one ball's models: gradients, large-eps examples, interpolations."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stages import cli

if TYPE_CHECKING:
    from robacc.params import Visualize


@dataclass(frozen=True)
class Job:
    """One model; its judges are trained on another seed."""

    dataset: str
    file: Path
    seed: int

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.stem}"


def visualize_one(job: Job, on_progress, *, settings: "Visualize"):  # noqa: ANN001, ANN201
    """Return the arrays of the pictures, and the numbers over many images as rows."""
    import torch

    from robacc import data, models, saliency
    from robacc.norms import ball

    model, _ = models.load(job.file)
    judges = {
        name: models.load(Path(f"models/{job.dataset}-judges/{name}.safetensors"))[0] for name in ("standard", "robust")
    }
    test = data.load(Path("data") / job.dataset / "test.safetensors")
    n_steps, step_size, n_points = settings.n_steps, settings.step_size, settings.n_points
    index = torch.cat([(test.y == label).nonzero()[: settings.n_per_class, 0] for label in test.y.unique()])
    x, y = test.batch(index)
    pictures = {"index": index, "x": x, "y": y, "predicted": models.predict(model, x)}
    pictures["gradient"] = saliency.loss_gradients(model, x, y)
    many_x, many_y = test.first(settings.n_images)
    numbers = [("", saliency.gradient_numbers(model, many_x, many_y))]
    for norm in ("l2", "linf"):
        threat = ball(norm, getattr(settings.large_eps, norm))
        attack = partial(saliency.large_eps_examples, model, threat=threat, n_steps=n_steps, step_size=step_size)
        x_adv = attack(x, y)
        path = saliency.interpolation(x, x_adv, n_points)
        pictures |= {f"x_adv_{norm}": x_adv, f"predicted_{norm}": models.predict(model, x_adv), f"path_{norm}": path}
        many_adv = attack(many_x, many_y)
        numbers.append((norm, saliency.large_eps_numbers(model, judges, many_x, many_adv, many_y, n_points=n_points)))
    on_progress(1)
    rows = [{"seed": job.seed, "norm": norm, **row} for norm, values in numbers for row in saliency.summaries(values)]
    return {key: value.numpy() for key, value in pictures.items()}, rows


def main(args: argparse.Namespace) -> None:
    """Write results/visualize/<id>/: pictures.npz of the first seed, numbers.csv of all seeds."""
    import torch

    from robacc import params, sweep
    from robacc.files import must_exist, write_arrays, write_csv

    torch.set_num_threads(1)
    p = params.load()
    name = params.model_id(args.dataset, args.norm, args.eps)
    folder = Path("models") / name
    jobs = [
        Job(args.dataset, must_exist(folder / f"seed{seed}-natural0.0.safetensors"), seed)
        for seed in range(p.datasets[args.dataset].n_seeds)
    ]
    work = partial(visualize_one, settings=p.visualize[args.dataset])
    results = sweep.parallel(work, jobs, units=[1] * len(jobs), unit="models", n_workers=cli.n_workers())
    write_arrays(results[0][0], Path("results/visualize") / name / "pictures.npz")
    write_csv([row for _, rows in results for row in rows], Path("results/visualize") / name / "numbers.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "norm", "eps"))
