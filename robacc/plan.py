"""List the models that params.yaml asks for.

Stages depend on this code. No stage depends on `robacc.params`, which only checks the file.
"""

from robacc.balls import STANDARD, Ball, parse
from robacc.params import Dataset, Judges, Natural, Params, Recipe, Seeds
from robacc.training.jobs import Job


def balls(p: Params, dataset: str) -> list[Ball]:
    """Return the balls of the models of `dataset`, in the order of params.yaml."""
    return [parse(word) for word in p.balls[dataset]]


def recipe(p: Params, dataset: str) -> Recipe:
    """Return the recipe of `dataset`."""
    return p.recipes[p.datasets[dataset].recipe]


def seeds(settings: Seeds, ball: Ball) -> range:
    """Return the seeds of the models of `ball` on the full training set."""
    n = settings.n_deciding if str(ball) in settings.deciding else settings.n
    return range(settings.first, settings.first + n)


def attacked(settings: Seeds, ball: Ball) -> range:
    """Return those of `seeds` whose models are attacked and drawn."""
    return seeds(settings, ball)[: settings.n_attacked]


def natural_fractions(natural: Natural, ball: Ball) -> list[float]:
    """Return the shares of unperturbed examples with which attacked models of `ball` are trained."""
    return natural.fractions if str(ball) in natural.balls else [0.0]


def attacked_models(settings: Dataset, ball: Ball) -> list[tuple[int, float]]:
    """Return (seed, share of unperturbed examples) of the full-set models of `ball` that are attacked."""
    return [
        (seed, fraction)
        for seed in attacked(settings.seeds, ball)
        for fraction in natural_fractions(settings.natural, ball)
    ]


def full_set(settings: Dataset, ball: Ball) -> list[Job]:
    """Return the jobs of the models of `ball` on the full training set.

    A model that is not attacked has no unperturbed examples, as C4 needs robust accuracy too.
    """
    models = attacked_models(settings, ball)
    models += [(seed, 0.0) for seed in seeds(settings.seeds, ball)[settings.seeds.n_attacked :]]
    return [Job(ball, settings.n_train, seed, fraction) for seed, fraction in models]


def smaller_sets(settings: Dataset, ball: Ball) -> list[Job]:
    """Return the jobs of the models of `ball` on smaller training sets."""
    own = seeds(settings.seeds, ball)
    return [Job(ball, size, seed) for size, n_seeds in settings.sizes for seed in own[:n_seeds]]


def judges(settings: Judges, n_train: int) -> dict[str, Job]:
    """Return the jobs of the two judges of large-eps examples, by name."""
    chosen = {"standard": STANDARD, "robust": parse(settings.ball)}
    return {name: Job(ball, n_train, settings.seed) for name, ball in chosen.items()}
