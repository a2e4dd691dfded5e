"""List the models that params.yaml asks for.

Stages depend on this code. No stage depends on `robacc.params`, which only checks the file.
"""

from robacc.balls import STANDARD, Ball, parse
from robacc.params import Dataset, Judges, Natural, Params, Recipe
from robacc.training.jobs import Job


def balls(p: Params, dataset: str) -> list[Ball]:
    """Return the balls of the models of `dataset`, in the order of params.yaml."""
    return [parse(word) for word in p.balls[dataset]]


def recipe(p: Params, dataset: str) -> Recipe:
    """Return the recipe of `dataset`."""
    return p.recipes[p.datasets[dataset].recipe]


def natural_fractions(natural: Natural, ball: Ball) -> list[float]:
    """Return the shares of unperturbed examples with which full-set models of `ball` are trained."""
    return natural.fractions if str(ball) in natural.balls else [0.0]


def full_set(settings: Dataset, ball: Ball) -> list[Job]:
    """Return the jobs of the models of `ball` on the full training set."""
    return [
        Job(ball, settings.n_train, seed, fraction)
        for seed in range(settings.n_seeds)
        for fraction in natural_fractions(settings.natural, ball)
    ]


def smaller_sets(sizes: list[list[int]], ball: Ball) -> list[Job]:
    """Return the jobs of the models of `ball` on smaller training sets.

    `sizes` has rows [images, number of seeds].
    """
    return [Job(ball, size, seed) for size, n_seeds in sizes for seed in range(n_seeds)]


def judges(settings: Judges, n_train: int) -> dict[str, Job]:
    """Return the jobs of the two judges of large-eps examples, by name."""
    chosen = {"standard": STANDARD, "robust": parse(settings.ball)}
    return {name: Job(ball, n_train, settings.seed) for name, ball in chosen.items()}
