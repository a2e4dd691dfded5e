"""Decide the paper's claims from the result tables: of one data set's nets, or the exact ones."""

import argparse
from pathlib import Path
from typing import Any

from stages import cli


def read(name: str):  # noqa: ANN201 (pandas is not imported here)
    """Return a table of results/."""
    import pandas as pd

    from robacc.files import must_exist

    return pd.read_csv(must_exist(Path("results") / name), keep_default_na=False)


def trained(dataset: str, confidence: float, balls: list[str], margin: float) -> list:
    """Return the claims about trained nets, C2 and C4 at `balls`."""
    import pandas as pd

    from robacc.balls import parse
    from robacc.files import must_exist
    from robacc.paper import claims, claims_pictures, published

    contrasts, sizes, pictures = (read(f"{dataset}/{name}.csv") for name in ("contrasts", "sizes", "pictures"))
    others = pd.read_csv(must_exist(Path("data/published.csv")))
    gains, at = published.gains(others, dataset), [(ball.norm, ball.eps) for ball in map(parse, balls)]
    same: dict[str, Any] = {"dataset": dataset, "confidence": confidence}
    return [
        claims.small_sets(contrasts, dataset=dataset, margin=margin),
        claims.full_set(contrasts, sizes, balls=at, margin=margin, published=gains),
        claims.decline_with_eps(contrasts, margin=margin, published=gains),
        claims.half_and_half(contrasts, balls=at, margin=margin, published=published.halves(others, dataset)),
        claims_pictures.gradients_align(pictures, **same),
        claims_pictures.looks_like_another_class(pictures, **same),
        claims_pictures.smooth_interpolation(pictures, **same),
    ]


def exact(confidence: float) -> list:
    """Return the claims about the distribution of Section 2 and the linear model."""
    from robacc.paper import claims_exact

    points, frontier, checks = (read(f"theory/{name}.csv") for name in ("points", "frontier", "monte_carlo"))
    return [
        claims_exact.no_free_lunch(points, frontier, checks, confidence=confidence),
        claims_exact.tight(read("theory/closed_forms.csv")),
        claims_exact.opposite_optima(read("theory/optimum.csv")),
        claims_exact.transfers(read("theory/transfer.csv"), confidence=confidence),
        claims_exact.weak_pixels(read("linear/mass.csv"), threshold=0.1),
        claims_exact.few_pixels(read("linear/selection.csv")),
    ]


def main(args: argparse.Namespace) -> None:
    """Write results/<dataset, or exact>/: ledger.json, a row a claim; claims.json, the verdicts' words as metrics."""
    from dataclasses import asdict

    from robacc import params
    from robacc.files import write_json

    p = params.load()
    confidence = p.report.confidence
    if args.dataset:
        settings = p.claims[args.dataset]
        ledger = trained(args.dataset, confidence, settings.balls, settings.margin)
    else:
        ledger = exact(confidence)
    # A word a claim and norm, so that `dvc exp show` stays readable; the ledger has the rest.
    metrics = {claim.id: claim.words for claim in ledger}
    folder = Path("results") / (args.dataset or "exact")
    write_json({"claims": [{**asdict(claim), "verdict": claim.verdict} for claim in ledger]}, folder / "ledger.json")
    write_json(metrics, folder / "claims.json")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", needs_dataset=False))
