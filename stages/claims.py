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


def trained(dataset: str, confidence: float) -> list:
    """Return the claims about trained nets."""
    from robacc.paper import claims, claims_pictures

    accuracy, sizes, pictures = (read(f"{dataset}/{name}.csv") for name in ("accuracy", "sizes", "pictures"))
    same: dict[str, Any] = {"dataset": dataset, "confidence": confidence}
    return [
        claims.small_sets(sizes, **same),
        claims.full_set(sizes, **same),
        claims.decline_with_eps(accuracy, confidence=confidence),
        claims.half_and_half(accuracy, **same),
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
    """Write results/<dataset, or exact>/: ledger.json, a row a claim; claims.json, verdicts and values as metrics."""
    from dataclasses import asdict

    from robacc import params
    from robacc.files import write_json

    p = params.load()
    confidence = p.report.confidence
    ledger = trained(args.dataset, confidence) if args.dataset else exact(confidence)
    # A short metric a claim, so that `dvc exp show` stays readable: the first measure; all are in the ledger.
    metrics = {
        claim.id: {"verdict": claim.verdict, "value": round(claim.measures[0].value, 6) if claim.measures else None}
        for claim in ledger
    }
    folder = Path("results") / (args.dataset or "exact")
    write_json({"claims": [asdict(claim) for claim in ledger]}, folder / "ledger.json")
    write_json(metrics, folder / "claims.json")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", needs_dataset=False))
