"""Make the model card: what the published models are, how they were trained, and what they reach, as Markdown."""

import sys
from pathlib import Path

import jinja2
import pandas as pd

from robacc.balls import NORMS
from robacc.datasets import facts

__all__ = ["NORMS"]


def render(templates: Path, **content: object) -> str:
    """Return the card that model_card.md.j2 in `templates` makes of `content`.

    A missing name raises an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(card=sys.modules[__name__], facts=facts, **content)


def of_models(accuracy: pd.DataFrame, models: list[str], seed: int) -> pd.DataFrame:
    """Return the rows of accuracy.csv that are about the adversarially trained models of `seed`.

    Raises ValueError if a model has none: a card without accuracies would say nothing.
    """
    rows = accuracy[(accuracy.seed == seed) & (accuracy.natural_fraction == 0) & accuracy.model.isin(models)]
    if missing := [name for name in models if name not in set(rows.model)]:
        raise ValueError(f"expected accuracies of {', '.join(missing)}, seed {seed}, got none; run `dvc repro`")
    return rows


def _percent(rows: pd.DataFrame) -> list[str]:
    shares = zip(rows.accuracy, rows.low, rows.high, strict=True)
    return [f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" for value, low, high in shares]


def standard_accuracy(rows: pd.DataFrame) -> dict[str, str]:
    """Return the standard accuracy of each model on all test images, in percent with its interval."""
    rows = rows[rows.images == "all"]
    return dict(zip(rows.model, _percent(rows), strict=True))


def robust_accuracy(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Return robust accuracy in `norm`, in percent with its interval: a row for each model, a column for each eps."""
    rows = rows[rows.norm_test == norm].sort_values("eps_test", kind="stable")
    rows = rows.assign(text=_percent(rows), ball=rows.eps_test.map("eps {}".format))
    return rows.pivot_table(index="model", columns="ball", values="text", aggfunc="first", sort=False).fillna("")


def n_images(rows: pd.DataFrame, images: str) -> str:
    """Return how many test images an accuracy is of: `images` is "all", or "sample" for robust accuracy."""
    return f"{rows[rows.images == images].n.max():,}"
