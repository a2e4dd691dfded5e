"""Collect what the stages measured into tidy tables and the metrics, for the balls in params.yaml."""

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from robacc.balls import Ball
from robacc.training.jobs import model_name
from stages import cli

MODEL = ["model", "norm_train", "eps_train", "natural_fraction", "seed"]


@cache
def outcomes(model: str, folder: str = "evaluate") -> dict:
    """Return the arrays of every example's outcome, of all models of a ball; those of smaller sets are in sweep."""
    from robacc.files import read_arrays

    return read_arrays(Path("results") / folder / model / "outcomes.npz")


def by_seed(arrays: dict, end: str) -> dict:
    """Return the arrays named seed<k>`end`, by k."""
    found = {name: re.fullmatch(rf"seed(\d+){re.escape(end)}", name) for name in arrays}
    return {int(match[1]): arrays[name] for name, match in found.items() if match}


def right(model: str, name: str, norm: str = "none", eps: float = 0.0):  # noqa: ANN201 (pandas is not imported here)
    """Return whether a model of a ball is right on each image, standard or attacked, by index of the test image."""
    import pandas as pd

    if norm == "none":
        return pd.Series(outcomes(model)[f"{name}-correct"])
    return worst_case(model, name, norm) > float(eps)  # numpy would compare its own float64 with float32 unrounded


def by_pgd(model: str, name: str, norm: str):  # noqa: ANN201 (pandas is not imported here)
    """Return the smallest eps at which our attack fools a model of a ball, by index of the test image."""
    import pandas as pd

    arrays = outcomes(model)
    return pd.Series(arrays[f"{name}-{norm}-fooling-eps"], index=arrays[f"{name}-indices"])


@cache
def worst_case(model: str, name: str, norm: str):  # noqa: ANN201 (pandas is not imported here)
    """Return the smallest eps at which anything that was run fools a model, by index of the test image."""
    from robacc.paper import tables

    first = opinions(model)
    names = map(model_name, first.seed, first.natural_fraction)
    of_model = [row == (name, norm) for row in zip(names, first.norm, strict=True)]
    return tables.worst_case(by_pgd(model, name, norm), first.loc[of_model])


@cache
def opinions(model: str):  # noqa: ANN201 (pandas is not imported here)
    """Return which attack of AutoAttack was the first to fool each model of a ball, image by image."""
    import pandas as pd

    return pd.read_csv(Path("results/autoattack") / f"{model}.csv", keep_default_na=False)


def recounted(counts):  # noqa: ANN001, ANN201 (pandas is not imported here)
    """Return the counts of the evaluation, with what only AutoAttack fooled as fooled."""
    attacked = counts[counts.norm != "none"]
    models = zip(attacked.model, attacked.seed, attacked.natural_fraction, attacked.norm, attacked.eps, strict=True)
    n_correct = [int(right(model, model_name(*of), norm, eps).sum()) for model, *of, norm, eps in models]
    counts = counts.copy()
    counts.loc[attacked.index, "n_correct"] = n_correct
    return counts


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


def chance(model: str) -> float:
    """Return the accuracy of the best constant answer: the share of the most frequent class of the test images."""
    import numpy as np

    return float(np.bincount(outcomes(model)["y"]).max() / len(outcomes(model)["y"]))


def pairs(accuracy, standard: str) -> Iterator[tuple]:  # noqa: ANN001
    """Give (labels, right, base right): robust models against standard ones, half and half against adversarial."""
    for (model, norm, eps, fraction, seed), _ in accuracy[accuracy.norm_train != "standard"].groupby(MODEL):
        base = model if fraction else standard
        mine, plain = model_name(seed, fraction), model_name(seed, 0.0)
        labels = {"model": model, "natural_fraction": fraction, "base": base, "seed": seed}
        if f"{plain}-correct" not in outcomes(base):
            continue  # the standard model has fewer seeds
        yield {**labels, "kind": "std_acc"}, right(model, mine), right(base, plain)
        if fraction:
            yield {**labels, "kind": "rob_acc"}, right(model, mine, norm, eps), right(model, plain, norm, eps)


def contrasts(balls: dict[str, Ball], n_train: int) -> Iterator[tuple]:
    """Give (labels, contrast) of all that the claims about accuracy compare."""
    from robacc.paper import contrasts as of

    of_constant = chance(next(iter(balls)))
    by_size: dict[int, dict] = {}
    for name, ball in balls.items():
        trained = kind(ball), ball.eps
        for array, right in outcomes(name, "sweep").items():
            size, model = array.split("-", 1)
            by_size.setdefault(int(size), {}).setdefault(trained, {}).update(by_seed({model: right}, "-correct"))
    full = {(kind(ball), ball.eps): by_seed(outcomes(name), "-natural0.0-correct") for name, ball in balls.items()}
    yield from of.of_sizes({**by_size, n_train: full}, chance=of_constant)
    yield from of.of_eps(full, n_train, chance=of_constant)
    for name, ball in balls.items():
        yield from of.of_halves(halves(name, ball, n_train))


def halves(name: str, ball: Ball, n_train: int) -> Iterator[tuple]:
    """Give (labels, right of half-natural models, right of all-adversarial ones) of a ball, for both accuracies."""
    from robacc.paper.contrasts import not_learned

    arrays = outcomes(name)
    labels = {"n_train": n_train, "norm": ball.norm, "eps_base": ball.eps, "eps": ball.eps}
    mixed, plain = (by_seed(arrays, f"-natural{share}-correct") for share in (0.5, 0.0))
    if mixed:
        labels["unlearned"] = not_learned({str(ball): plain, f"half natural {ball}": mixed}, chance(name))
        yield {"kind": "std_acc", **labels}, mixed, plain
        mixed, plain = (
            {
                seed: right(name, model_name(seed, share), ball.norm, ball.eps)
                for seed in by_seed(arrays, f"-natural{share}-indices")
            }
            for share in (0.5, 0.0)
        )
        yield {"kind": "rob_acc", **labels}, mixed, plain


def radii(accuracy) -> Iterator[dict]:  # noqa: ANN001
    """Give the mean robust radius of every model, as rows of the numbers for the pictures."""
    from robacc.paper import tables

    attacked = accuracy[(accuracy.norm_test != "none") & (accuracy.natural_fraction == 0)]
    columns = ["model", "norm_train", "eps_train", "seed", "norm_test"]
    for keys, rows in attacked.groupby(columns, sort=False):
        labels = dict(zip([*columns[:-1], "norm"], keys, strict=True))
        fooling = worst_case(labels["model"], model_name(labels["seed"], 0.0), labels["norm"])
        found = tables.radius(fooling.to_numpy(), sorted(rows.eps_test))
        yield {**labels, "quantity": "radius", "position": 0.0, **found}


def main(args: argparse.Namespace) -> None:
    """Write metrics.json and eight tables to results/<dataset>/, from models.csv to autoattack.csv."""
    import pandas as pd

    from robacc import params, plan
    from robacc.files import write_csv, write_json
    from robacc.paper import tables
    from robacc.paper.contrasts import learned, table

    p = params.load()
    balls = {f"{args.dataset}-{ball}": ball for ball in plan.balls(p, args.dataset)}
    confidence, n_train = p.report.confidence, p.datasets[args.dataset].n_train
    accuracy = tables.accuracy(recounted(collect("evaluate/{}/accuracy.csv", balls)), confidence=confidence)
    sweep, curves = collect("sweep/{}/accuracy.csv", balls), collect("curves/{}", balls)
    opinions = []
    for keys, first in collect("autoattack/{}.csv", balls).groupby([*MODEL, "norm", "eps"]):
        model, _, _, fraction, seed, norm, eps = keys
        pgd = by_pgd(model, model_name(seed, fraction), norm) > float(eps)
        opinion = tables.second_opinion(first, pgd, confidence=confidence)
        opinions.append(opinion.assign(**dict(zip([*MODEL, "norm_test", "eps_test"], keys, strict=True))))
    folder = Path("results") / args.dataset
    trained = [{"model": name, "norm": kind(ball), "eps": ball.eps} for name, ball in balls.items()]
    write_csv(trained, folder / "models.csv")
    write_csv(accuracy, folder / "accuracy.csv")
    write_csv(tables.sizes(sweep, accuracy, curves, n_train=n_train, confidence=confidence), folder / "sizes.csv")
    write_csv(collect("evaluate/{}/checks.csv", balls), folder / "checks.csv")
    pictures = pd.concat([collect("visualize/{}/numbers.csv", balls), pd.DataFrame(radii(accuracy))], ignore_index=True)
    for (model, seed), of_model in pictures.groupby(["model", "seed"]).groups.items():
        pictures.loc[of_model, "learned"] = learned(right(model, model_name(seed, 0.0)), chance(model))
    write_csv(pictures, folder / "pictures.csv")
    write_csv(tables.paired(pairs(accuracy, f"{args.dataset}-standard"), confidence=confidence), folder / "paired.csv")
    write_csv(table(contrasts(balls, n_train), confidence=confidence), folder / "contrasts.csv")
    write_csv(pd.concat(opinions), folder / "autoattack.csv")
    write_json(tables.metrics(accuracy), folder / "metrics.json")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset"))
