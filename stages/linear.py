"""The linear model on MNIST 5 vs 7: Figure 5, Table 5, and the finite-sample remark of Appendix E."""

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages import cli

if TYPE_CHECKING:
    from robacc.params import Linear


def solvers(settings: "Linear") -> list[tuple[dict, Any]]:
    """Return every way to train, with the columns that name it; the first is the one that figures show."""
    from robacc import linear

    optimum = partial(linear.fit_optimum, **settings.optimum.model_dump(exclude={"l2"}))
    ways = [({"optimizer": "optimum", "l2": l2}, partial(optimum, l2=l2)) for l2 in settings.optimum.l2]
    return [*ways, ({"optimizer": "sgd", "l2": 0.0}, partial(linear.fit_sgd, **settings.sgd.model_dump()))]


def main(args: argparse.Namespace) -> None:
    """Write results/linear/: models, accuracy, features, mass, selection and noise, all .csv."""
    import pandas as pd
    from threadpoolctl import threadpool_limits

    from robacc import data, linear, params, tables
    from robacc.files import write_csv

    threadpool_limits(1)  # the last bits of a sum depend on the number of threads
    p = params.load()
    settings, eps_grid, used = p.linear, [0.0, *p.linear.eps], p.linear.used
    noise, n_noise = settings.noise, settings.noise.n_features
    files = [Path("data/mnist") / f"{split}.safetensors" for split in ("train", "test")]
    train, test = (linear.binary(data.load(file), classes=settings.classes) for file in files)
    rows: dict[str, list[dict]] = {name: [] for name in linear.TABLES}
    ways = solvers(settings)
    for key, fit in ways:
        for eps in eps_grid:
            model = fit(*train, eps=eps)
            shown = linear.report(model, train, test, eps_grid=settings.eps, used=used, thresholds=settings.thresholds)
            for name, part in shown.items():
                rows[name] += [{**key, "eps_train": eps, **row} for row in part]
        part = linear.select_features(fit, train, test, n_kept=settings.n_kept, eps_grid=settings.eps)
        rows["selection"] += [{**key, **row} for row in part]
    for n, seed in product(noise.sizes, range(noise.n_seeds)):
        sample = linear.noisy_sample(*train, n, n_noise=n_noise, seed=seed)
        part = linear.weight_on_noise(ways[0][1], *sample, n_noise=n_noise, eps_grid=eps_grid, used=used)
        rows["noise"] += [{"n_train": n, "seed": seed, **row} for row in part]
    for name, part in rows.items():
        counted = "n_correct" in part[0]
        table = tables.with_intervals(pd.DataFrame(part), confidence=p.report.confidence) if counted else part
        write_csv(table, Path("results/linear") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
