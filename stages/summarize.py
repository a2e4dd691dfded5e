"""Collect what the stages measured into tidy tables and the metrics, for the balls in params.yaml."""

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from robacc.balls import Ball
from robacc.training.jobs import model_name
from stages import cli

MODEL = ["model", "norm_train", "eps_train", "natural_fraction", "seed"]


@cache
def outcomes(model: str) -> dict:
    """Return the arrays of every example's outcome, of all models of a ball."""
    from robacc.files import read_arrays

    return read_arrays(Path("results/evaluate") / model / "outcomes.npz")


def kind(ball: Ball) -> str:
    """Return how tables name the training: by its norm, or standard."""
    return "standard" if ball.is_standard else ball.norm


def collect(pattern: str, models: dict[str, Ball]):  # noqa: ANN201 (pandas is not imported here)
    """Return the tables at `pattern`, with {} for the model, as one."""
    import pandas as pd

    from robacc.files import must_exist

    parts = []
    for name, ball in models.items():
        files = must_exist(Path("results") / pattern.format(name))
        paths = sorted(files.iterdir()) if files.is_dir() else [files]
        part = pd.concat([pd.read_csv(file, keep_default_na=False) for file in paths])
        parts.append(part.assign(model=name, norm_train=kind(ball), eps_train=ball.eps))
    return pd.concat(parts, ignore_index=True)


def pairs(accuracy, standard: str) -> Iterator[tuple]:  # noqa: ANN001
    """Give (labels, right, base right): robust models against standard ones, half and half against adversarial."""
    for (model, norm, eps, fraction, seed), _ in accuracy[accuracy.norm_train != "standard"].groupby(MODEL):
        ours, base = outcomes(model), outcomes(model if fraction else standard)
        mine, plain = model_name(seed, fraction), model_name(seed, 0.0)
        labels = {"model": model, "natural_fraction": fraction, "base": model if fraction else standard, "seed": seed}
        yield {**labels, "kind": "std_acc"}, ours[f"{mine}-correct"], base[f"{plain}-correct"]
        if fraction:
            right, other = (ours[f"{name}-{norm}-fooling-eps"] > eps for name in (mine, plain))
            yield {**labels, "kind": "rob_acc"}, right, other


def radii(accuracy) -> Iterator[dict]:  # noqa: ANN001
    """Give the mean robust radius of every model, as rows of the numbers for the pictures."""
    from robacc.paper import tables

    attacked = accuracy[(accuracy.norm_test != "none") & (accuracy.natural_fraction == 0)]
    columns = ["model", "norm_train", "eps_train", "seed", "norm_test"]
    for keys, rows in attacked.groupby(columns, sort=False):
        labels = dict(zip([*columns[:-1], "norm"], keys, strict=True))
        fooling = outcomes(labels["model"])[f"{model_name(labels['seed'], 0.0)}-{labels['norm']}-fooling-eps"]
        found = tables.radius(fooling, sorted(rows.eps_test))
        yield {**labels, "quantity": "radius", "position": 0.0, **found}


def main(args: argparse.Namespace) -> None:
    """Write results/<dataset>/: models, accuracy, sizes, checks, pictures, paired, autoattack (csv); metrics.json."""
    import pandas as pd

    from robacc import params, plan
    from robacc.files import write_csv, write_json
    from robacc.paper import tables

    p = params.load()
    balls = {f"{args.dataset}-{ball}": ball for ball in plan.balls(p, args.dataset)}
    confidence, n_train = p.report.confidence, p.datasets[args.dataset].n_train
    accuracy = tables.accuracy(collect("evaluate/{}/accuracy.csv", balls), confidence=confidence)
    sweep, curves = collect("sweep/{}.csv", balls), collect("curves/{}", balls)
    opinions = []
    for keys, first in collect("autoattack/{}.csv", balls).groupby([*MODEL, "norm", "eps"]):
        model, _, _, fraction, seed, norm, eps = keys
        pgd = outcomes(model)[f"{model_name(seed, fraction)}-{norm}-fooling-eps"] > eps
        opinion = tables.second_opinion(first, pgd, confidence=confidence)
        opinions.append(opinion.assign(**dict(zip([*MODEL, "norm_test", "eps_test"], keys, strict=True))))
    folder = Path("results") / args.dataset
    trained = [{"model": name, "norm": kind(ball), "eps": ball.eps} for name, ball in balls.items()]
    write_csv(trained, folder / "models.csv")
    write_csv(accuracy, folder / "accuracy.csv")
    write_csv(tables.sizes(sweep, accuracy, curves, n_train=n_train, confidence=confidence), folder / "sizes.csv")
    write_csv(collect("evaluate/{}/checks.csv", balls), folder / "checks.csv")
    pictures = pd.concat([collect("visualize/{}/numbers.csv", balls), pd.DataFrame(radii(accuracy))])
    write_csv(pictures, folder / "pictures.csv")
    write_csv(tables.paired(pairs(accuracy, f"{args.dataset}-standard"), confidence=confidence), folder / "paired.csv")
    write_csv(pd.concat(opinions), folder / "autoattack.csv")
    write_json(tables.metrics(accuracy), folder / "metrics.json")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
