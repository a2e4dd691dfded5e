"""Render reports/index.html, one file with everything in it, and reports/summary.md, from the result files."""

import argparse
import json
from pathlib import Path

from robacc.params import Params
from stages import cli, identity


def ledger(name: str) -> list[dict]:
    """Return the claims decided from results/<name>/."""
    return json.loads((Path("results") / name / "ledger.json").read_text(encoding="utf-8"))["claims"]


def training(p: Params, dataset: str) -> dict:
    """Return what the page says of the nets trained on one data set."""
    import pandas as pd

    from robacc import plan
    from robacc.balls import NORMS
    from robacc.datasets import facts
    from robacc.report import explorer, page

    folder, paper, trained = Path("results") / dataset, facts.of(dataset).paper_recipe, plan.balls(p, dataset)
    names = ("accuracy", "pictures", "sizes", "autoattack", "paired", "checks", "models")
    tables = {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=name == "checks") for name in names}
    pictures = [Path("results/visualize") / model / "pictures.npz" for model in tables["models"].model]
    changed = page.differences(plan.recipe(p, dataset).model_dump(), p.recipes[paper].model_dump())
    robust = [ball for ball in trained if not ball.is_standard]
    return {
        "settings": p.datasets[dataset],
        "grid": {norm: [ball.eps for ball in robust if ball.norm == norm] for norm in NORMS},
        "evaluate": p.evaluate[dataset],
        "autoattack": p.autoattack[dataset],
        "visualize": p.visualize[dataset],
        "paper_recipe": paper,
        "deviations": facts.of(dataset).differences + changed,
        "claims": ledger(dataset),
        "margin": p.claims[dataset].margin,
        **page.data_source(Path("data") / dataset),
        "rule": page.picture_rule(pictures, dataset),
        "explorer": explorer.explorer(Path("results/visualize"), tables["models"], dataset),
        **page.shown(dataset, tables),
    }


def exact(p: Params) -> dict:
    """Return what the page says of the linear model and the theory."""
    import pandas as pd

    from robacc.report import page

    linear, theory = Path("results/linear"), Path("results/theory")
    accuracy = pd.read_csv(linear / "accuracy.csv")
    optimum = pd.read_csv(theory / "optimum.csv", keep_default_na=False)
    return {
        "linear": p.linear,
        "theory": p.theory,
        "n_linear": f"{accuracy[accuracy.split == 'test'].n.max():,}",
        "linear_table": page.linear_table(accuracy, pd.read_csv(linear / "models.csv")),
        "optimum_table": page.optimum_table(optimum),
        "transfer_table": page.transfer_table(pd.read_csv(theory / "transfer.csv")),
    }


def hashes(titles: dict[str, str]) -> dict[str, str]:
    """Return the hashes of data, code and parameters; `titles` is data set -> how the page names it."""
    from robacc.report.page import file_hash

    named = {}
    for dataset, title in titles.items():
        for kind, split in {"training": "train", "test": "test"}.items():
            named[f"{title}, {kind} data, SHA-256"] = file_hash(Path("data") / dataset / f"{split}.safetensors")
        for what, stage in {"training": "train", "evaluation": "evaluate", "pictures": "visualize"}.items():
            file = identity.FOLDER / identity.name(stage, dataset)
            named[f"{title}, code of {what}"] = file.read_text(encoding="utf-8").strip()
    return {**named, "Parameters, SHA-256": file_hash(Path("params.yaml"))}


def main(_: argparse.Namespace) -> None:
    """Write reports/index.html and reports/summary.md from results/, reports/figures/ and params.yaml."""
    import pandas as pd

    from robacc import params
    from robacc.datasets import facts
    from robacc.datasets.restricted_imagenet import SUPER_CLASSES
    from robacc.files import must_exist, write_text
    from robacc.report import page

    p = params.load()
    runs = {dataset: training(p, dataset) for dataset in facts.in_order() if p.run[dataset]}
    further = {run["name"]: run["claims"] for dataset, run in runs.items() if dataset != "mnist"}
    claims = page.by_number(ledger("exact") + (runs["mnist"]["claims"] if "mnist" in runs else []))
    titles = {dataset: run["name"] for dataset, run in runs.items()}
    of_all = ledger("exact") + [claim for run in runs.values() for claim in run["claims"]]
    content = {"claims_of_all": of_all, "exact_claims": ledger("exact"), "hashes": hashes(titles), **exact(p)}
    content |= {"runs": runs, "super_classes": SUPER_CLASSES}
    published = pd.read_csv(must_exist(Path("data/published.csv")))
    text = page.render(Path("stages"), published=published, **content)
    write_text(text, Path("reports/index.html"))
    write_text(page.summary(claims, further), Path("reports/summary.md"))


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
