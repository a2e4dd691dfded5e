"""Render reports/index.html, one file with everything in it, and results/summary.md, from the result files."""

import argparse
import json
from pathlib import Path

from robacc.params import Params
from stages import cli


def training(p: Params) -> dict:
    """Return what the page says of the trained nets."""
    import pandas as pd

    from robacc import reporting

    folder = Path("results/mnist")
    names = ("accuracy", "pictures", "sizes", "autoattack", "paired")
    tables = {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False) for name in names}
    accuracy, checks = tables["accuracy"], pd.read_csv(folder / "checks.csv")
    return {
        "dataset": p.datasets["mnist"],
        "evaluate": p.evaluate["mnist"],
        "autoattack": p.autoattack["mnist"],
        "grid": p.grid["mnist"],
        "visualize": p.visualize["mnist"],
        "deviations": reporting.differences(p.recipe("mnist").model_dump(), p.recipes["mnist-paper"].model_dump()),
        "n_test": f"{accuracy[accuracy.norm_test == 'none'].n.max():,}",
        "n_robust": f"{accuracy[accuracy.norm_test != 'none'].n.max():,}",
        "largest_excess": f"{checks.largest_excess.max():.1e}",
        "masking": reporting.masking_text(checks),
        "sizes_text": reporting.seeds_by_size(tables["sizes"]),
        "tables": tables,
    }


def exact(p: Params) -> dict:
    """Return what the page says of the linear model and the theory."""
    import pandas as pd

    from robacc import reporting

    linear, theory = Path("results/linear"), Path("results/theory")
    accuracy = pd.read_csv(linear / "accuracy.csv")
    return {
        "linear": p.linear,
        "theory": p.theory,
        "n_linear": f"{accuracy[accuracy.split == 'test'].n.max():,}",
        "linear_table": reporting.linear_table(accuracy, pd.read_csv(linear / "models.csv")),
        "optimum_table": reporting.optimum_table(pd.read_csv(theory / "optimum.csv", keep_default_na=False)),
        "transfer_table": reporting.transfer_table(pd.read_csv(theory / "transfer.csv")),
    }


def main(_: argparse.Namespace) -> None:
    """Write reports/index.html and results/summary.md from results/, reports/figures/ and params.yaml."""
    import jinja2

    from robacc import params, reporting
    from robacc.files import whole

    p = params.load()
    claims = json.loads(Path("results/ledger.json").read_text())["claims"]
    loader = jinja2.FileSystemLoader("stages")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True)
    hashes = reporting.hashes(Path("data/mnist"), Path("params.yaml"))
    page = environment.get_template("report.html.j2").render(
        claims=claims, hashes=hashes, reporting=reporting, **training(p), **exact(p)
    )
    for path, text in {"reports/index.html": page, "results/summary.md": reporting.summary(claims)}.items():
        with whole(Path(path)) as partial:
            partial.write_text(text)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
