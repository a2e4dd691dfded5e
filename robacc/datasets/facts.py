"""Define the facts about a data set that are known before its files are read.

Each data set has a module in this folder with its facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

# Every other module in this folder is a data set of that name. No list has to be edited.
NAMES = tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py") if file.stem != "facts"))


@dataclass(frozen=True)
class DataSet:
    """The facts about a data set.

    | field | meaning |
    |---|---|
    | `title`, `letter` | its name for readers, and the letter of its panel in the figures |
    | `classes` | their names, in the order of the labels |
    | `channels`, `size` | 1 for grey or 3 for colour; the side of an image in pixels, as the nets see it |
    | `paper_eps` | the paper's training eps in each norm (Table 2), for images in [0, 1] |
    | `paper_recipe` | the section of params.yaml with the paper's settings |
    | `eps_in_255` | whether legends show eps as 4/255, as the paper does |
    | `counts` | the numbers of training and test images, "train" and "test", where they are the same in every copy |
    | `stored` | whether training keeps the images in memory or reads them from files |
    | `differences` | differences of the images from the paper's: (what, here, in the paper) |
    """

    title: str
    letter: str
    classes: tuple[str, ...]
    channels: int
    size: int
    paper_eps: Mapping[str, float]
    paper_recipe: str
    eps_in_255: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    stored: Literal["in_memory", "on_disk"] = "in_memory"
    differences: list[tuple[str, str, str]] = field(default_factory=list)


def in_order() -> list[str]:
    """Return `NAMES` in the order of the panels."""
    return sorted(NAMES, key=lambda name: of(name).letter)


def of(name: str) -> DataSet:
    """Return the facts about the data set `name`.

    Raises ValueError for a name that is not in `NAMES`.
    """
    if name not in NAMES:
        raise ValueError(f"expected a data set of {', '.join(NAMES)}, got {name!r}")
    return import_module(f"robacc.datasets.{name}").FACTS
