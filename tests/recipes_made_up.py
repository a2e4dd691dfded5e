"""A training so small that a test can do it: a recipe, random images, and a project with both."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first optimizer loads it, for a second and a half: here once, not in each forked process
from ruamel.yaml import YAML

from robacc.images import in_memory
from robacc.params import Recipe

ROOT = Path(__file__).parent.parent
TINY = Recipe(
    arch="narrow_cnn",
    n_classes=10,
    mean=[0.13],
    std=[0.31],
    optimizer="adam",
    lr=[[0.0, 0.01], [1.0, 0.0]],
    weight_decay=0.001,
    momentum=0.0,
    batch_size=8,
    augment="none",
    padding=0,
    steps=[[1, 6]],
    attack_steps=2,
    attack_step_size=0.5,
    eps_warmup=0.0,
)


def tiny(**changes: Any) -> Recipe:
    """Return `TINY` with changes, which nobody checks."""
    return TINY.model_copy(update=changes)


def random_images(n: int) -> in_memory.Images:
    """Return `n` grey images of 28x28 in ten classes."""
    x = torch.tensor(np.random.default_rng(0).integers(256, size=(n, 1, 28, 28)), dtype=torch.uint8)
    y = torch.arange(n) % 10
    return in_memory.Images(x, y, in_memory.content_hash(x, y))


def write_project(folder: Path, n_train: int, *, recipe: dict, training: dict) -> None:
    """Write a params.yaml with one small job a ball of MNIST on the CPU, and `n_train` random images for it."""
    yaml = YAML()
    content = yaml.load(ROOT / "params.yaml")
    content["datasets"]["mnist"] |= {"recipe": "mnist-smoke", "n_train": n_train, "sizes": [[10, 1]], "n_seeds": 1}
    content["recipes"]["mnist-smoke"] |= recipe
    content["training"] |= {"hardware": "cpu", **training}
    folder.mkdir(parents=True, exist_ok=True)
    yaml.dump(content, folder / "params.yaml")
    images = random_images(n_train)
    in_memory.save(images.x, images.y, folder / "data" / "mnist" / "train.safetensors")
