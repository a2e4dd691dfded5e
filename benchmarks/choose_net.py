"""Choose the net of a laptop recipe among a handful: `python -m benchmarks.choose_net mnist`.

The rule was written before any result. Each net trains for the same CPU time, on all training images but 5,000, or a
fifth of a small set. The nets that pool, as the paper's do, are compared by standard accuracy on these after standard
training, mean over seeds. The highest wins. A net is level with the highest if the mean difference, seed by seed, is
at most its standard error. Among level nets the one with the fewest multiply-adds wins. Robust accuracy and test images
are not looked at.

CPU time is that of an adversarial training step, as robust nets are what costs time: the attack and the update, on one
thread, medians over rounds in which the nets take turns. All nets are timed as PyTorch builds them. The CPU time for
each is that of a number of steps with the last net of each list. For CIFAR-10 these are six epochs. Otherwise the last
net is the recipe's first one, which does not pool. A net with batch normalisation is attacked in evaluation mode.
Writes benchmarks/choice-<data set>.csv.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.nets import multiply_adds
from robacc import balls
from robacc.attack.norms import threat_model
from robacc.files import must_exist, write_csv
from robacc.images import loading
from robacc.images.batches import nested_subset
from robacc.nets.layers import FlattenChannelsLast, Normalize
from robacc.nets.model import predict
from robacc.parallel import OnProgress, keep_freed_memory, parallel
from robacc.params import Recipe
from robacc.params import load as load_params
from robacc.seeding import derive, generator
from robacc.training.jobs import Job
from robacc.training.train import Progress, adversarial_batch, train_step

ROUNDS = 40
Layers = list[nn.Module]


def conv(n_in: int, n_out: int, size: int, stride: int = 1, *, pool: bool = False, norm: bool = False) -> Layers:
    """Return a convolution, which keeps the image's size but for its stride, and a ReLU.

    If asked for, batch normalisation stands between them, and 2x2 pooling after them.
    """
    layers: Layers = [nn.Conv2d(n_in, n_out, size, stride, (size - 1) // 2, bias=not norm)]
    layers += [nn.BatchNorm2d(n_out)] if norm else []
    layers += [nn.ReLU(inplace=True)]
    return [*layers, nn.MaxPool2d(2)] if pool else layers


def head(n_in: int, hidden: int, n_classes: int = 10) -> Layers:
    """Return two dense layers."""
    return [FlattenChannelsLast(), nn.Linear(n_in, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, n_classes)]


# The steps of the recipe at first, the number of seeds, and the nets as lists of layers.
CANDIDATES: dict[str, tuple[int, int, dict[str, Callable[[], Layers]]]] = {
    "mnist": (
        750,
        5,
        {
            "5x5 (8), pool, 5x5 (16), pool, dense 128": lambda: [
                *conv(1, 8, 5, pool=True), *conv(8, 16, 5, pool=True), *head(49 * 16, 128)
            ],
            "5x5 (12), pool, 5x5 (24), pool, dense 128": lambda: [
                *conv(1, 12, 5, pool=True), *conv(12, 24, 5, pool=True), *head(49 * 24, 128)
            ],
            "3x3 (8), pool, 3x3 (16), pool, dense 128": lambda: [
                *conv(1, 8, 3, pool=True), *conv(8, 16, 3, pool=True), *head(49 * 16, 128)
            ],
            "3x3 (16), pool, 3x3 (32), pool, dense 100": lambda: [
                *conv(1, 16, 3, pool=True), *conv(16, 32, 3, pool=True), *head(49 * 32, 100)
            ],
            "4x4 stride 2 (16), 3x3 (16), pool, dense 100": lambda: [
                *conv(1, 16, 4, 2), *conv(16, 16, 3, pool=True), *head(49 * 16, 100)
            ],
            "4x4 stride 2 (32), pool, 3x3 (32), dense 100": lambda: [
                *conv(1, 32, 4, 2, pool=True), *conv(32, 32, 3), *head(49 * 32, 100)
            ],
            "4x4 stride 2 (16), 4x4 stride 2 (32), dense 100": lambda: [
                *conv(1, 16, 4, 2), *conv(16, 32, 4, 2), *head(49 * 32, 100)
            ],
        },
    ),
    "cifar10": (
        3000,
        2,
        {
            "4x4 stride 2 (16), 3x3 (32), pool, dense 128": lambda: [
                *conv(3, 16, 4, 2), *conv(16, 32, 3, pool=True), *head(64 * 32, 128)
            ],
            "4x4 stride 2 (32), pool, 3x3 (64), pool, 3x3 (128), pool, dense 128, batch norm": lambda: [
                *conv(3, 32, 4, 2, pool=True, norm=True), *conv(32, 64, 3, pool=True, norm=True),
                *conv(64, 128, 3, pool=True, norm=True), *head(4 * 128, 128)
            ],
            "4x4 stride 2 (24), 3x3 (48), pool, 3x3 (96), pool, dense 128, batch norm": lambda: [
                *conv(3, 24, 4, 2, norm=True), *conv(24, 48, 3, pool=True, norm=True),
                *conv(48, 96, 3, pool=True, norm=True), *head(16 * 96, 128)
            ],
            "4x4 stride 2 (32), 3x3 (64), pool, 3x3 (128), pool, dense 128, batch norm": lambda: [
                *conv(3, 32, 4, 2, norm=True), *conv(32, 64, 3, pool=True, norm=True),
                *conv(64, 128, 3, pool=True, norm=True), *head(16 * 128, 128)
            ],
            "3x3 (16), pool, 3x3 (32), pool, 3x3 (64), pool, dense 128, batch norm": lambda: [
                *conv(3, 16, 3, pool=True, norm=True), *conv(16, 32, 3, pool=True, norm=True),
                *conv(32, 64, 3, pool=True, norm=True), *head(16 * 64, 128)
            ],
            "4x4 stride 2 (16), 3x3 (32), pool, 3x3 (64), pool, dense 128, batch norm": lambda: [
                *conv(3, 16, 4, 2, norm=True), *conv(16, 32, 3, pool=True, norm=True),
                *conv(32, 64, 3, pool=True, norm=True), *head(16 * 64, 128)
            ],
        },
    ),
    "restricted_imagenet_64": (
        400,
        3,
        {
            "4x4 stride 2 (16), pool, 3x3 (32), pool, dense 128": lambda: [
                *conv(3, 16, 4, 2, pool=True), *conv(16, 32, 3, pool=True), *head(64 * 32, 128, 9)
            ],
            "4x4 stride 2 (16), pool, 3x3 (32), pool, 3x3 (64), pool, dense 128": lambda: [
                *conv(3, 16, 4, 2, pool=True), *conv(16, 32, 3, pool=True), *conv(32, 64, 3, pool=True),
                *head(16 * 64, 128, 9)
            ],
            "4x4 stride 2 (16), pool, 3x3 (32), pool, 3x3 (64), pool, dense 128, batch norm": lambda: [
                *conv(3, 16, 4, 2, pool=True, norm=True), *conv(16, 32, 3, pool=True, norm=True),
                *conv(32, 64, 3, pool=True, norm=True), *head(16 * 64, 128, 9)
            ],
            "4x4 stride 2 (16), 4x4 stride 2 (32), 3x3 (32), pool, dense 128": lambda: [
                *conv(3, 16, 4, 2), *conv(16, 32, 4, 2), *conv(32, 32, 3, pool=True), *head(64 * 32, 128, 9)
            ],
            "4x4 stride 2 (8), 4x4 stride 2 (16), 4x4 stride 2 (32), dense 128": lambda: [
                *conv(3, 8, 4, 2), *conv(8, 16, 4, 2), *conv(16, 32, 4, 2), *head(64 * 32, 128, 9)
            ],
        },
    ),
}  # fmt: skip


def build(layers: Callable[[], Layers], recipe: Recipe, seed: int) -> nn.Sequential:
    """Return the net with weights of `seed`, after its normalisation, as `robacc.nets.model.build` does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        net = nn.Sequential(Normalize(recipe.mean, recipe.std), *layers())
    return net.to(memory_format=torch.channels_last)


def start(net: nn.Module, recipe: Recipe) -> Progress:
    """Return the state of a training before its first step."""
    return Progress(net, torch.optim.Adam(net.parameters(), lr=1.0, weight_decay=recipe.weight_decay), 0, [])


def milliseconds(
    nets: dict[str, nn.Sequential], recipe: Recipe, x: Tensor, y: Tensor
) -> dict[str, tuple[float, float]]:
    """Return the CPU milliseconds of the attack and of the update on the batch `x`, `y`, for every net."""
    torch.set_num_threads(1)
    keep_freed_memory()
    job, threat = Job(balls.STANDARD, 10**9, 0), threat_model("linf", 0.1)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in nets}
    states = {name: start(net, recipe) for name, net in nets.items()}
    for turn in range(ROUNDS + 2):
        for name, net in nets.items():
            begin = time.process_time()
            adversarial_batch(net, x, y, threat, recipe, natural=0, noise=generator(turn))
            between = time.process_time()
            train_step(states[name], x, y, job, recipe)
            times[name][0].append(between - begin)
            times[name][1].append(time.process_time() - between)
    return {name: (1e3 * statistics.median(a[2:]), 1e3 * statistics.median(u[2:])) for name, (a, u) in times.items()}


def split(n: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the training images to train on, and of those held out."""
    order = torch.randperm(n, generator=generator(0, "held out"))
    n_held_out = min(5000, n // 5)
    return order[n_held_out:], order[:n_held_out]


def accuracy(
    item: tuple[str, int], on_progress: OnProgress, *, dataset: str, file: Path, recipes: dict[str, Recipe]
) -> float:
    """Train net `item` = (name, seed) in the standard way; return its accuracy on the images held out."""
    (name, seed), recipe, images = item, recipes[item[0]], loading.load(file)
    used, held_out = split(len(images))
    subset = used[nested_subset(images.y[used], len(used), seed=seed)]
    progress = start(build(CANDIDATES[dataset][-1][name], recipe, seed), recipe)
    job, n = Job(balls.STANDARD, len(used), seed), recipe.steps[0][1]
    whole = slice(0, recipe.batch_size)
    how: dict[str, Any] = {"augment": recipe.augment, "padding": recipe.padding, "n_decoders": 0}
    for x, y in images.training_batches(subset, range(n), batch_size=recipe.batch_size, seed=seed, share=whole, **how):
        train_step(progress, x.contiguous(memory_format=torch.channels_last), y, job, recipe)
        on_progress(1)
    x, y = images.batch(held_out)
    return (predict(progress.model, x) == y).double().mean().item()


def winner(table: pd.DataFrame) -> str:
    """Return the net that the rule chooses from a table with a column of accuracies for each seed."""
    pooling = table[table.net.str.contains("pool")].set_index("net")
    seeds = pooling.filter(like="seed ")
    behind = seeds.loc[seeds.mean(axis=1).idxmax()] - seeds
    level = behind.mean(axis=1) <= behind.std(axis=1) / seeds.shape[1] ** 0.5
    return str(pooling[level].million_multiply_adds.idxmin())


def main() -> None:
    """Time, train, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=CANDIDATES)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    dataset: str = arguments.dataset
    at_first, n_seeds, candidates = CANDIDATES[dataset]
    params = load_params()
    recipe = params.recipes[params.datasets[dataset].recipe]
    file = must_exist(Path(f"data/{dataset}/train.safetensors"))
    nets = {name: build(layers, recipe, 0) for name, layers in candidates.items()}
    x, y = loading.load(file).first(recipe.batch_size)
    times = milliseconds(nets, recipe, x.contiguous(memory_format=torch.channels_last), y)
    budget = at_first * sum(times[list(nets)[-1]])
    steps = {name: round(budget / sum(both)) for name, both in times.items()}
    recipes = {name: recipe.model_copy(update={"steps": [[1, n]]}) for name, n in steps.items()}
    items = [(name, seed) for name in nets for seed in range(n_seeds)]
    work = partial(accuracy, dataset=dataset, file=file, recipes=recipes)
    units = [steps[name] for name, _ in items]
    found = parallel(work, items, units=units, unit="steps", n_workers=arguments.workers)
    rows = []
    for index, (name, net) in enumerate(nets.items()):
        accuracies = found[n_seeds * index : n_seeds * (index + 1)]
        attack, update = times[name]
        rows.append(
            {
                "net": name,
                "million_multiply_adds": round(multiply_adds(net.eval(), x) / 1e6, 2),
                "parameters": sum(parameter.numel() for parameter in net.parameters()),
                "ms_attack": round(attack, 1),
                "ms_update": round(update, 1),
                "steps": steps[name],
                "accuracy": round(statistics.mean(accuracies), 5),
                **{f"seed {seed}": value for seed, value in enumerate(accuracies)},
            }
        )
    table = pd.DataFrame(rows)
    write_csv(table, Path(f"benchmarks/choice-{dataset}.csv"))
    print(table.to_string(index=False))
    print("The rule chooses:", winner(table))


if __name__ == "__main__":
    main()
