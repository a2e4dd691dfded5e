"""Decide the paper's claims from the result tables."""

import argparse
from pathlib import Path

from stages import cli


def main(_: argparse.Namespace) -> None:
    """Write results/ledger.json, a row a claim, and results/claims.json, verdicts and values as metrics."""
    from dataclasses import asdict

    import pandas as pd

    from robacc import claims, claims_exact, params
    from robacc.files import must_exist, write_json

    p = params.load()

    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(must_exist(Path("results") / name), keep_default_na=False)

    accuracy, sizes, pictures = read("mnist/accuracy.csv"), read("mnist/sizes.csv"), read("mnist/pictures.csv")
    confidence = p.report.confidence
    ledger = [
        claims.small_sets(sizes, confidence=confidence),
        claims.full_set(sizes, confidence=confidence),
        claims.decline_with_eps(accuracy, confidence=confidence),
        claims.half_and_half(accuracy, confidence=confidence),
        claims_exact.no_free_lunch(
            read("theory/points.csv"),
            read("theory/frontier.csv"),
            read("theory/monte_carlo.csv"),
            confidence=confidence,
        ),
        claims_exact.tight(read("theory/closed_forms.csv")),
        claims_exact.opposite_optima(read("theory/optimum.csv")),
        claims_exact.transfers(read("theory/transfer.csv"), confidence=confidence),
        claims_exact.weak_pixels(read("linear/mass.csv"), threshold=0.1),
        claims_exact.few_pixels(read("linear/selection.csv")),
        claims.gradients_align(pictures, confidence=confidence),
        claims.looks_like_another_class(pictures, confidence=confidence),
        claims.smooth_interpolation(pictures, confidence=confidence),
    ]
    # A short metric a claim, so that `dvc exp show` stays readable: the first measure; all are in the ledger.
    metrics = {
        claim.id: {"verdict": claim.verdict, "value": round(claim.measures[0].value, 6) if claim.measures else None}
        for claim in ledger
    }
    write_json({"claims": [asdict(claim) for claim in ledger]}, Path("results/ledger.json"))
    write_json(metrics, Path("results/claims.json"))


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
