"""Render reports/index.html, one file with everything in it, and reports/summary.md, from the result files."""

import argparse
import json
from pathlib import Path

from robacc.params import DatasetName, Params
from stages import cli


def ledger(name: str) -> list[dict]:
    """Return the claims decided from results/<name>/."""
    return json.loads((Path("results") / name / "ledger.json").read_text())["claims"]


def training(p: Params, dataset: DatasetName) -> dict:
    """Return what the page says of the nets trained on one data set."""
    import pandas as pd

    from robacc import reporting
    from robacc.panels import PAPER_RECIPES

    folder, paper = Path("results") / dataset, PAPER_RECIPES[dataset]
    names = ("accuracy", "pictures", "sizes", "autoattack", "paired", "checks", "models")
    tables = {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=name == "checks") for name in names}
    pictures = [Path("results/visualize") / model / "pictures.npz" for model in tables["models"].model]
    changed = reporting.differences(p.recipe(dataset).model_dump(), p.recipes[paper].model_dump())
    return {
        "settings": p.datasets[dataset],
        "grid": p.grid[dataset],
        "evaluate": p.evaluate[dataset],
        "autoattack": p.autoattack[dataset],
        "visualize": p.visualize[dataset],
        "paper_recipe": paper,
        "deviations": reporting.OTHER_DATA.get(dataset, []) + changed,
        "claims": ledger(dataset),
        **reporting.data_source(Path("data") / dataset),
        "rule": reporting.picture_rule(pictures, dataset),
        **reporting.facts(dataset, tables),
    }


def exact(p: Params) -> dict:
    """Return what the page says of the linear model and the theory."""
    import pandas as pd

    from robacc import reporting

    linear, theory = Path("results/linear"), Path("results/theory")
    accuracy = pd.read_csv(linear / "accuracy.csv")
    optimum = pd.read_csv(theory / "optimum.csv", keep_default_na=False)
    return {
        "linear": p.linear,
        "theory": p.theory,
        "n_linear": f"{accuracy[accuracy.split == 'test'].n.max():,}",
        "linear_table": reporting.linear_table(accuracy, pd.read_csv(linear / "models.csv")),
        "optimum_table": reporting.optimum_table(optimum),
        "transfer_table": reporting.transfer_table(pd.read_csv(theory / "transfer.csv")),
    }


def main(_: argparse.Namespace) -> None:
    """Write reports/index.html and reports/summary.md from results/, reports/figures/ and params.yaml."""
    from robacc import params, reporting
    from robacc.files import whole

    p = params.load()
    runs = {dataset: training(p, dataset) for dataset in p.datasets_run()}
    further = {run["name"]: run["claims"] for dataset, run in runs.items() if dataset != "mnist"}
    claims = reporting.by_number(ledger("exact") + (runs["mnist"]["claims"] if "mnist" in runs else []))
    hashes = reporting.hashes({run["name"]: Path("data") / key for key, run in runs.items()}, Path("params.yaml"))
    page = reporting.page(Path("stages"), claims=claims, hashes=hashes, runs=runs, **exact(p))
    for path, text in {"reports/index.html": page, "reports/summary.md": reporting.summary(claims, further)}.items():
        with whole(Path(path)) as partial:
            partial.write_text(text)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
