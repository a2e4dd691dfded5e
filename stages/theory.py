"""Section 2: closed forms, exact optima, and classifiers trained on samples of its distribution."""

import argparse
import math
import os
from itertools import product
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write results/theory/: optimum, dimension, closed_forms, frontier, monte_carlo, points and transfer, all .csv."""
    # Before numpy loads: the last bits of a sum, and with them the splits of trees, depend on the number of threads.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    import pandas as pd
    from joblib import Parallel, delayed

    from robacc import params, theory, theory_samples
    from robacc.files import write_csv

    p = params.load().theory
    names = ("optimum", "dimension", "closed_forms", "frontier", "monte_carlo", "points", "transfer")
    rows: dict[str, list[dict]] = {name: [] for name in names}
    for share, d, strength in product(p.optimum.p, p.optimum.d, p.optimum.strengths):
        dist = theory.pooled(p=share, d=d, strength=strength)
        for ratio in p.optimum.eps_train:
            rows["optimum"].append(theory.optimum_row(dist, eps_train=ratio * dist.eta, eps=p.eps * dist.eta))
    for d in p.dimension.d:
        scaled = [("strength", strength / math.sqrt(d)) for strength in p.dimension.strengths]
        for fixed, eta in [*scaled, *(("eta", eta) for eta in p.dimension.etas)]:
            dist = theory.Distribution(p.p[0], d, eta)  # the mean does not look at x1: any p
            mean = theory.row(dist, theory.symmetric(dist, 0, 1), eps=p.eps * eta)
            rows["dimension"].append({"fixed": fixed, **mean})
    fit = theory_samples.Fit(**p.fit.model_dump())
    settings = list(product(p.p, p.strengths))
    dists = [theory.pooled(p=share, d=p.d, strength=strength) for share, strength in settings]
    study = delayed(theory_samples.study)
    work = [
        study(dist, fit, n_seeds=p.n_seeds, eps=p.eps * dist.eta, n_test=p.n_test, n_steps=p.n_steps) for dist in dists
    ]
    for points, transfer in Parallel(cli.n_workers(), backend="multiprocessing")(work):
        rows["points"] += points
        rows["transfer"] += transfer
    for dist, (share, strength) in zip(dists, settings, strict=True):
        rows["closed_forms"] += theory.closed_forms(dist, eps=p.eps * dist.eta)
        for d in p.frontier.d:
            wide = theory.pooled(p=share, d=d, strength=strength)
            rows["frontier"] += theory.frontier(wide, p.frontier.n, eps=p.eps * wide.eta)
    for share, seed in product(p.p, range(p.n_seeds)):
        dist = theory.pooled(p=share, d=p.monte_carlo.d, strength=p.monte_carlo.strength)
        rows["monte_carlo"] += theory.checks(dist, eps=p.eps * dist.eta, n=p.monte_carlo.n, seed=seed)
    for name, part in rows.items():
        write_csv(pd.DataFrame(part).round(p.decimals), Path("results/theory") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
