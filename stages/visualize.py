"""Pictures and their numbers for one ball's models: gradients, large-eps examples, interpolations."""

import argparse
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from robacc.params import Visualize
from robacc.training.jobs import model_name
from stages import cli

if TYPE_CHECKING:
    from torch import Tensor

    from robacc.paper.large_eps import TrainingImages


@dataclass(frozen=True)
class Task:
    """One model, and one of the next seed, or none, whose gradients it is compared with.

    The judges of both are trained on another seed.
    """

    dataset: str
    file: Path
    other: Path | None
    seed: int

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.stem}"


@dataclass(frozen=True)
class Shared:
    """What is the same for every model: test images with their nearest training images, and those.

    `components` are the principal components of colour images, else None.
    """

    x: "Tensor"
    y: "Tensor"
    training: "TrainingImages"
    nearest: "Tensor"
    nearest_other: "Tensor"
    components: "Tensor | None"


@cache
def shared(dataset: str, sample_seed: int, n_images: int, n_training: int, seed: int) -> Shared:
    """Return what is the same for every model, of `n_images` of the sample and a balanced training subset."""
    from robacc.images import batches, loading, sample
    from robacc.paper import large_eps, saliency

    train, test = (loading.load(Path("data") / dataset / f"{split}.safetensors") for split in ("train", "test"))
    x, y = test.batch(sample.balanced_order(test.y, seed=sample_seed)[:n_images])
    training = large_eps.TrainingImages(*train.batch(batches.nested_subset(train.y, n_training, seed=seed)))
    components = saliency.principal_components(training.x) if x.shape[1] > 1 else None
    return Shared(x, y, training, training.nearest(x), training.nearest(x, unlike=y), components)


def visualize_one(task: Task, on_progress, *, sample_seed: int, settings: Visualize, device: str):  # noqa: ANN001, ANN201
    """Return the arrays of the pictures, and the numbers over many images as rows."""
    import torch

    from robacc.attack.norms import threat_model
    from robacc.images import loading, sample
    from robacc.nets import model as nets
    from robacc.paper import large_eps, saliency
    from robacc.training import hardware

    def load(file: Path) -> torch.nn.Module:
        return hardware.for_evaluation(nets.load(file)[0], device)

    model, other = load(task.file), load(task.other) if task.other else None
    folder = Path(f"models/{task.dataset}-judges")
    judges = {name: load(folder / f"{name}.safetensors") for name in ("standard", "robust")}
    test = loading.load(Path("data") / task.dataset / "test.safetensors")
    same = shared(task.dataset, sample_seed, settings.n_images, settings.n_training, settings.seed)
    threats = [threat_model(norm, eps) for norm, eps in settings.large_eps.items()]
    n_points, seed = settings.n_points, settings.seed
    order = sample.balanced_order(test.y, seed=sample_seed)
    index = torch.cat([order[test.y[order] == label][: settings.n_per_class] for label in test.y.unique()])
    pictures = large_eps.pictures(model, *test.batch(index), threats, settings.search, n_points=n_points, seed=seed)
    x, y, training = same.x, same.y, same.training
    neighbours = training.x[same.nearest_other], training.y[same.nearest_other]
    numbers = saliency.gradient_numbers(model, x, y, neighbours=neighbours, components=same.components, other=other)
    for threat in threats:
        x_adv, _ = large_eps.highest_loss(model, x, y, threat, settings.search, seed=seed)
        numbers[threat.norm] |= large_eps.large_eps_numbers(model, judges, training, x, x_adv, y, n_points=n_points)
    numbers["none"]["nearest_right"] = training.y[same.nearest] == y
    on_progress(1)
    rows = [row for norm, of in numbers.items() for row in saliency.summaries(of, norm=norm, seed=task.seed)]
    return {"index": index.numpy(), **{key: value.numpy() for key, value in pictures.items()}}, rows


def main(args: argparse.Namespace) -> None:
    """Write results/visualize/<dataset>-<ball>/: pictures.npz of the first seed, numbers.csv of all attacked seeds."""
    from robacc import params, plan
    from robacc.files import must_exist, write_arrays, write_csv
    from robacc.parallel import parallel

    p = params.load()
    settings, dataset = p.visualize[args.dataset], p.datasets[args.dataset]
    name = f"{args.dataset}-{args.ball}"
    seeds = plan.attacked(dataset.seeds, args.ball)
    files = [must_exist(Path("models") / name / f"{model_name(seed, 0.0)}.safetensors") for seed in seeds]
    tasks = [Task(args.dataset, *of) for of in zip(files, files[1:] + files[:1], seeds, strict=True)]
    shared(args.dataset, dataset.sample_seed, settings.n_images, settings.n_training, settings.seed)  # for all workers
    work = partial(visualize_one, sample_seed=dataset.sample_seed, settings=settings, device=p.training.hardware)
    results = parallel(work, tasks, units=[1] * len(tasks), unit="models", n_workers=cli.n_workers())
    write_arrays(results[0][0], Path("results/visualize") / name / "pictures.npz")
    write_csv([row for _, rows in results for row in rows], Path("results/visualize") / name / "numbers.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
