"""Write the verdicts of results/ and the graph of dvc.yaml into README.md, each between its two marks."""

import argparse
import json
from pathlib import Path

from stages import cli

README = Path("README.md")
RESULTS = Path("results")
GRAPH = ("<!-- made of dvc.yaml by `python -m stages.readme` -->", "<!-- end of the graph -->")


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


def graph() -> str:
    """Return the stages of dvc.yaml in Mermaid: a name a script, arrows from a result's maker to its readers.

    Scripts that run once a ball have a double frame. An arrow that others imply is left out, and so is `code`, which
    every stage reads.
    """
    import networkx
    from dvc.repo import Repo

    with Repo() as repo:
        needs = repo.index.graph
    script = {stage: stage.cmd.split()[2].removeprefix("stages.") for stage in needs}
    arrows = networkx.DiGraph((script[dep], script[stage]) for stage, dep in needs.edges)
    arrows.remove_edges_from(list(networkx.selfloop_edges(arrows)))
    arrows.remove_node("code")
    lines = [f'{name}[["{name}"]]' for name in sorted({script[stage] for stage in needs if " --ball " in stage.cmd})]
    lines += [f"{one} --> {other}" for one, other in sorted(networkx.transitive_reduction(arrows).edges)]
    return "\n".join(["```mermaid", "flowchart LR", *(f"  {line}" for line in lines), "```"])


def drawn(text: str) -> str:
    """Return the text of README.md with the graph of dvc.yaml."""
    from robacc.report import verdicts

    return verdicts.fill(text, graph(), *GRAPH)


def main(_: argparse.Namespace) -> None:
    """Write README.md anew."""
    from robacc.files import write_text

    write_text(drawn(filled()), README)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
