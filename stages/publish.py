"""Publish one model of each ball with its card and a few test images, to be tried without data and training."""

import argparse
import shutil
from pathlib import Path

from robacc.training.jobs import model_name
from stages import cli

FOLDER = Path("pretrained")


def publish_images(dataset: str, *, n_per_class: int, sample_seed: int) -> None:
    """Write the first test images of each class in the order of the sample, those that the figures choose from."""
    import torch

    from robacc.files import read_tensors
    from robacc.images import in_memory, sample

    tensors, about = read_tensors(Path("data") / dataset / "test.safetensors")
    x, y = tensors["x"], tensors["y"]
    order = sample.balanced_order(y, seed=sample_seed)
    index = torch.cat([order[y[order] == label][:n_per_class] for label in y.unique()])
    in_memory.save(x[index], y[index], FOLDER / "images.safetensors", source=about.get("source", ""))


def main(args: argparse.Namespace) -> None:
    """Write pretrained/: a model of the first seed for each ball, images.safetensors, and README.md, the model card."""
    import pandas as pd

    from robacc import params, plan
    from robacc.files import must_exist, read_tensors, whole, write_text
    from robacc.report import card

    p = params.load()
    dataset, seed = args.dataset, p.datasets[args.dataset].seeds.first
    names = [f"{dataset}-{ball}" for ball in plan.balls(p, dataset)]
    files = {name: Path("models") / name / f"{model_name(seed, 0.0)}.safetensors" for name in names}
    about = {name: read_tensors(file)[1] for name, file in files.items()}
    accuracy = pd.read_csv(must_exist(Path("results") / dataset / "accuracy.csv"), keep_default_na=False)
    text = card.render(
        Path("stages"),
        dataset=dataset,
        about=about,
        accuracy=card.of_models(accuracy, names, seed),
        recipe=plan.recipe(p, dataset).model_dump(),
        confidence=p.report.confidence,
    )
    for name, file in files.items():
        with whole(FOLDER / f"{name}.safetensors") as target:
            shutil.copyfile(file, target)
    settings = p.visualize[dataset]
    publish_images(dataset, n_per_class=settings.n_per_class, sample_seed=p.datasets[dataset].sample_seed)
    write_text(text, FOLDER / "README.md")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
