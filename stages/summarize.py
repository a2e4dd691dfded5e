"""Collect what the stages measured into tidy tables and the metrics, for the balls in params.yaml."""

import argparse
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write results/<dataset>/: models.csv, accuracy.csv, sizes.csv, checks.csv, pictures.csv, metrics.json."""
    import pandas as pd

    from robacc import params, tables
    from robacc.files import must_exist, write_csv, write_json

    p = params.load()
    balls = {params.model_id(args.dataset, *trained): trained for trained in p.trained(args.dataset)}

    def collect(pattern: str) -> pd.DataFrame:
        parts = {}
        for name, (norm, eps) in balls.items():
            files = must_exist(Path("results") / pattern.format(name))
            paths = sorted(files.iterdir()) if files.is_dir() else [files]
            part = pd.concat([pd.read_csv(file, keep_default_na=False) for file in paths])
            parts[name] = part.assign(model=name, norm_train=norm or "standard", eps_train=eps)
        return pd.concat(parts.values(), ignore_index=True)

    confidence = p.report.confidence
    accuracy = tables.accuracy(collect("evaluate/{}/accuracy.csv"), confidence=confidence)
    n_train = p.datasets[args.dataset].n_train
    sweep, curves = collect("sweep/{}.csv"), collect("curves/{}")
    sizes = tables.sizes(sweep, accuracy, curves, n_train=n_train, confidence=confidence)
    folder = Path("results") / args.dataset
    rows = [{"model": name, "norm": norm or "standard", "eps": eps} for name, (norm, eps) in balls.items()]
    write_csv(rows, folder / "models.csv")
    write_csv(accuracy, folder / "accuracy.csv")
    write_csv(sizes, folder / "sizes.csv")
    write_csv(collect("evaluate/{}/checks.csv"), folder / "checks.csv")
    write_csv(collect("visualize/{}/numbers.csv"), folder / "pictures.csv")
    write_json(tables.metrics(accuracy), folder / "metrics.json")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
