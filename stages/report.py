"""Render reports/index.html, one file with everything in it, from the result files."""

import argparse
from pathlib import Path

from stages import cli


def main(_: argparse.Namespace) -> None:
    """Write reports/index.html and results/summary.md from results/, reports/figures/ and params.yaml."""
    import json

    import jinja2
    import pandas as pd

    from robacc import params, reporting
    from robacc.files import whole

    p = params.load()
    folder = Path("results/mnist")
    accuracy = pd.read_csv(folder / "accuracy.csv", keep_default_na=False)
    sizes = pd.read_csv(folder / "sizes.csv")
    checks = pd.read_csv(folder / "checks.csv")
    pictures = pd.read_csv(folder / "pictures.csv", keep_default_na=False)
    claims = json.loads(Path("results/ledger.json").read_text())["claims"]
    dataset, evaluate = p.datasets["mnist"], p.evaluate["mnist"]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader("stages"), undefined=jinja2.StrictUndefined, autoescape=True
    )
    page = environment.get_template("report.html.j2").render(
        claims=claims,
        counts=reporting.count_verdicts(claims),
        dataset=dataset,
        grid=p.grid["mnist"],
        visualize=p.visualize["mnist"],
        attack=evaluate.attack,
        evaluation_seed=evaluate.seed,
        n_checked=evaluate.n_checked,
        n_test=accuracy[accuracy.norm_test == "none"].n.max(),
        n_robust=accuracy[accuracy.norm_test != "none"].n.max(),
        largest_excess=f"{checks.largest_excess.max():.1e}",
        deviations=reporting.differences(p.recipe("mnist").model_dump(), p.recipes["mnist-paper"].model_dump()),
        seeds_text="the seeds",
        sizes_text=reporting.seeds_by_size(sizes),
        size_table=reporting.size_table(sizes),
        robust_table=reporting.robust_table(accuracy),
        picture_table=reporting.picture_table(pictures),
        half_table=reporting.half_table(accuracy),
        paper=reporting.PAPER_EPS,
        rule=reporting.PICTURE_RULE,
        hashes=reporting.hashes(),
        versions=reporting.library_versions(),
        device=reporting.device_kind(),
        embed=reporting.embed,
        table=reporting.html_table,
        interval=reporting.interval,
    )
    with whole(Path("reports/index.html")) as partial:
        partial.write_text(page)
    with whole(Path("results/summary.md")) as partial:
        partial.write_text(reporting.summary(claims))


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__))
