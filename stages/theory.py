"""Section 2: closed forms, exact optima, and classifiers trained on samples of its distribution."""

import argparse
import math
from functools import partial
from itertools import product
from pathlib import Path

from robacc.params import Theory
from stages import cli


def study(dist, on_progress, *, settings: Theory):  # noqa: ANN001, ANN201
    """Return the rows about classifiers trained on samples of one distribution, and about transfer between them."""
    from robacc.paper import theory_samples

    counts = {"n_seeds": settings.n_seeds, "n_test": settings.n_test, "n_steps": settings.n_steps}
    rows = theory_samples.study(dist, settings.fit, eps=settings.eps * dist.eta, **counts)
    on_progress(settings.n_seeds)
    return rows


def main(args: argparse.Namespace) -> None:
    """Write results/theory/: optimum, dimension, closed_forms, frontier, monte_carlo, points and transfer, all .csv."""
    import pandas as pd

    from robacc import params
    from robacc.files import write_csv
    from robacc.paper import theory
    from robacc.parallel import parallel

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
    settings = list(product(p.p, p.strengths))
    dists = [theory.pooled(p=share, d=p.d, strength=strength) for share, strength in settings]
    seeds = [p.n_seeds] * len(dists)
    studies = parallel(partial(study, settings=p), dists, units=seeds, unit="seeds", n_workers=cli.n_workers())
    for points, transfer in studies:
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
