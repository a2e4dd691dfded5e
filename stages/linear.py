"""The linear model on MNIST 5 vs 7: Figure 5, Table 5, and the finite-sample remark of Appendix E."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from robacc.params import Linear
from stages import cli


def solvers(settings: Linear) -> list[tuple[dict, Callable]]:
    """Return every way to train, with the columns that name it; the first is the one that figures show."""
    from robacc.paper import linear

    optimum = partial(linear.fit_optimum, **settings.optimum.model_dump(exclude={"l2"}))
    ways = [({"optimizer": "optimum", "l2": l2}, partial(optimum, l2=l2)) for l2 in settings.optimum.l2]
    return [*ways, ({"optimizer": "sgd", "l2": 0.0}, partial(linear.fit_sgd, **settings.sgd.model_dump()))]


def study(key: dict, fit: Callable, train: tuple, test: tuple, settings: Linear) -> dict[str, list[dict]]:
    """Return the rows of one way to train: its models at every eps, and training on the k most correlated pixels."""
    from robacc.paper import linear

    rows: dict[str, list[dict]] = {name: [] for name in linear.TABLES}
    for eps in [0.0, *settings.eps]:
        model = fit(*train, eps=eps)
        shown = linear.report(
            model, train, test, eps_grid=settings.eps, used=settings.used, thresholds=settings.thresholds
        )
        for name, part in shown.items():
            rows[name] += [{**key, "eps_train": eps, **row} for row in part]
    part = linear.select_features(fit, train, test, n_kept=settings.n_kept, eps_grid=settings.eps)
    rows["selection"] = [{**key, **row} for row in part]
    return rows


def noise(fit: Callable, train: tuple, settings: Linear) -> dict[str, list[dict]]:
    """Return the rows of the noise-feature experiment."""
    from robacc.paper import linear

    n_noise, rows = settings.noise.n_features, []
    for n, seed in product(settings.noise.sizes, range(settings.noise.n_seeds)):
        sample = linear.noisy_sample(train[0], train[1], n, n_noise=n_noise, seed=seed)
        eps_grid = [0.0, *settings.eps]
        part = linear.weight_on_noise(fit, *sample, n_noise=n_noise, eps_grid=eps_grid, used=settings.used)
        rows += [{"n_train": n, "seed": seed, **row} for row in part]
    return {"noise": rows}


@dataclass(frozen=True)
class Part:
    """A part of the work, and its name in the lines about progress."""

    name: str
    rows: Callable[[], dict[str, list[dict]]]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def part_of_work(part: Part, on_progress: Callable[[int], None]) -> dict[str, list[dict]]:
    """Return the rows of one part."""
    rows = part.rows()
    on_progress(1)
    return rows


def main(args: argparse.Namespace) -> None:
    """Write results/linear/: models, accuracy, features, mass, selection and noise, all .csv."""
    import pandas as pd

    from robacc import params
    from robacc.files import write_csv
    from robacc.images import loading
    from robacc.paper import linear, tables
    from robacc.parallel import parallel

    p = params.load()
    settings = p.linear
    files = [Path("data/mnist") / f"{split}.safetensors" for split in ("train", "test")]
    train, test = (linear.binary(loading.load(file), classes=settings.classes) for file in files)
    ways = solvers(settings)
    work = [
        Part(f"{key['optimizer']}, l2 {key['l2']:g}", partial(study, key, fit, train, test, settings))
        for key, fit in ways
    ]
    work.append(Part("noise features", partial(noise, ways[0][1], train, settings)))
    units = range(1, len(work) + 1)  # the last is the longest and starts first, so that no core waits for it
    parts = parallel(part_of_work, work, units=units, unit="parts", n_workers=cli.n_workers())
    for name in linear.TABLES:
        rows = [row for part in parts for row in part.get(name, [])]
        counted = "n_correct" in rows[0]
        table = tables.with_intervals(pd.DataFrame(rows), confidence=p.report.confidence) if counted else rows
        write_csv(table, Path("results/linear") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
