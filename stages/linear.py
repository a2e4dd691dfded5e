"""The linear model on MNIST 5 vs 7: Figure 5, Table 5, and the finite-sample remark of Appendix E."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

from robacc.params import Linear
from stages import cli


def solvers(settings: Linear) -> list[tuple[dict, Callable]]:
    """Return every way to train, with the columns that name it; the first is the one that figures show."""
    from robacc import linear

    optimum = partial(linear.fit_optimum, **settings.optimum.model_dump(exclude={"l2"}))
    ways = [({"optimizer": "optimum", "l2": l2}, partial(optimum, l2=l2)) for l2 in settings.optimum.l2]
    return [*ways, ({"optimizer": "sgd", "l2": 0.0}, partial(linear.fit_sgd, **settings.sgd.model_dump()))]


def study(key: dict, fit: Callable, train: tuple, test: tuple, settings: Linear) -> dict[str, list[dict]]:
    """Return the rows of one way to train: its models at every eps, and training on the k most correlated pixels."""
    from robacc import linear

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
    from robacc import linear

    n_noise, rows = settings.noise.n_features, []
    for n, seed in product(settings.noise.sizes, range(settings.noise.n_seeds)):
        sample = linear.noisy_sample(train[0], train[1], n, n_noise=n_noise, seed=seed)
        eps_grid = [0.0, *settings.eps]
        part = linear.weight_on_noise(fit, *sample, n_noise=n_noise, eps_grid=eps_grid, used=settings.used)
        rows += [{"n_train": n, "seed": seed, **row} for row in part]
    return {"noise": rows}


def main(args: argparse.Namespace) -> None:
    """Write results/linear/: models, accuracy, features, mass, selection and noise, all .csv."""
    # Before numpy loads, here and in the workers: the last bits of a sum depend on the number of threads.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    import pandas as pd
    from joblib import Parallel, delayed

    from robacc import data, linear, params, tables
    from robacc.files import write_csv

    p = params.load()
    settings = p.linear
    files = [Path("data/mnist") / f"{split}.safetensors" for split in ("train", "test")]
    train, test = (linear.binary(data.load(file), classes=settings.classes) for file in files)
    ways = solvers(settings)
    work = [delayed(noise)(ways[0][1], train, settings)]  # the longest first, so that no core waits for it
    work += [delayed(study)(key, fit, train, test, settings) for key, fit in reversed(ways)]
    parts = Parallel(cli.n_workers(), backend="multiprocessing")(work)[::-1]
    for name in linear.TABLES:
        rows = [row for part in parts for row in part.get(name, [])]
        counted = "n_correct" in rows[0]
        table = tables.with_intervals(pd.DataFrame(rows), confidence=p.report.confidence) if counted else rows
        write_csv(table, Path("results/linear") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
