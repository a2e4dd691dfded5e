"""Pictures and their numbers for one ball's models: gradients, large-eps examples, interpolations."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robacc.params import Visualize
from robacc.training.jobs import model_name
from stages import cli


@dataclass(frozen=True)
class Task:
    """One model; its judges are trained on another seed."""

    dataset: str
    file: Path
    seed: int

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.stem}"


def visualize_one(task: Task, on_progress, *, sample_seed: int, settings: Visualize, device: str):  # noqa: ANN001, ANN201
    """Return the arrays of the pictures, and the numbers over many images as rows."""
    import torch

    from robacc.attack.norms import threat_model
    from robacc.images import loading, sample
    from robacc.nets import model as nets
    from robacc.paper import saliency
    from robacc.training import hardware

    model, folder = hardware.for_evaluation(nets.load(task.file)[0], device), Path(f"models/{task.dataset}-judges")
    judges = {
        name: hardware.for_evaluation(nets.load(folder / f"{name}.safetensors")[0], device)
        for name in ("standard", "robust")
    }
    test = loading.load(Path("data") / task.dataset / "test.safetensors")
    threats = [threat_model(norm, eps) for norm, eps in settings.large_eps.items()]
    n_steps, step_size, n_points = settings.n_steps, settings.step_size, settings.n_points
    order = sample.balanced_order(test.y, seed=sample_seed)
    index = torch.cat([order[test.y[order] == label][: settings.n_per_class] for label in test.y.unique()])
    pictures = saliency.pictures(
        model, *test.batch(index), threats, n_steps=n_steps, step_size=step_size, n_points=n_points
    )
    x, y = test.batch(order[: settings.n_images])
    rows = saliency.summaries(saliency.gradient_numbers(model, x, y), norm="none", seed=task.seed)
    for threat in threats:
        x_adv = saliency.large_eps_examples(model, x, y, threat, n_steps=n_steps, step_size=step_size)
        numbers = saliency.large_eps_numbers(model, judges, x, x_adv, y, n_points=n_points)
        rows += saliency.summaries(numbers, norm=threat.norm, seed=task.seed)
    on_progress(1)
    return {"index": index.numpy(), **{key: value.numpy() for key, value in pictures.items()}}, rows


def main(args: argparse.Namespace) -> None:
    """Write results/visualize/<dataset>-<ball>/: pictures.npz of the first seed, numbers.csv of all attacked seeds."""
    from robacc import params, plan
    from robacc.files import must_exist, write_arrays, write_csv
    from robacc.parallel import parallel

    p = params.load()
    dataset, name = p.datasets[args.dataset], f"{args.dataset}-{args.ball}"
    folder = Path("models") / name
    tasks = [
        Task(args.dataset, must_exist(folder / f"{model_name(seed, 0.0)}.safetensors"), seed)
        for seed in plan.attacked(dataset.seeds, args.ball)
    ]
    settings, device = p.visualize[args.dataset], p.training.hardware
    work = partial(visualize_one, sample_seed=dataset.sample_seed, settings=settings, device=device)
    results = parallel(work, tasks, units=[1] * len(tasks), unit="models", n_workers=cli.n_workers())
    write_arrays(results[0][0], Path("results/visualize") / name / "pictures.npz")
    write_csv([row for _, rows in results for row in rows], Path("results/visualize") / name / "numbers.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
