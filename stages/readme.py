"""Write the verdicts of results/ into README.md, between its two marks."""

import argparse
import json
from pathlib import Path

from stages import cli

README = Path("README.md")
RESULTS = Path("results")


def ledger(name: str) -> list[dict]:
    """Return the claims decided from results/<name>/."""
    from robacc.files import must_exist

    return json.loads(must_exist(RESULTS / name / "ledger.json").read_text(encoding="utf-8"))["claims"]


def filled() -> str:
    """Return what README.md should be: its own text with the tables of what results/ holds."""
    from robacc.datasets import facts
    from robacc.report import verdicts

    titles = {dataset: facts.of(dataset).title for dataset in facts.in_order()}
    run = [dataset for dataset in titles if (RESULTS / dataset / "ledger.json").exists()]
    trained = {titles[dataset]: ledger(dataset) for dataset in run}
    not_run = [title for dataset, title in titles.items() if dataset not in run and dataset != "own"]
    return verdicts.fill(README.read_text(encoding="utf-8"), verdicts.tables(ledger("exact"), trained, not_run))


def main(_: argparse.Namespace) -> None:
    """Write README.md anew."""
    from robacc.files import write_text

    write_text(filled(), README)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
