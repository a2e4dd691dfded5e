"""Choose the images that the picture figures show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shown:
    """The images that are shown, and the rule that chose them.

    `indices` are their indices in pictures.npz. `classes` are the names of their classes.
    """

    indices: list[int]
    classes: list[str]
    rule: str


def choose(pictures: Iterable[Mapping[str, np.ndarray]], classes: tuple[str, ...]) -> Shown:
    """Return which images the figures show, from the `pictures` of several models on the same images.

    The pictures of each class are in the order of the sample of test images. From each class it is the first that every
    model classifies correctly. A class without such an image is skipped. If every class would be skipped, the first
    image of each class is shown. `rule` says in words what was done.
    """
    arrays = list(pictures)
    y = arrays[0]["y"]
    right = np.all([of_model["predicted"] == of_model["y"] for of_model in arrays], axis=0)
    labels = [int(label) for label in np.unique(y)]
    sample = "the first in the sample of test images"
    tried = f"the first {max(int((y == label).sum()) for label in labels)}"
    common = "the same images for every model; models of the first seed."
    if not right.any():
        indices = [int(np.flatnonzero(y == label)[0]) for label in labels]
        rule = f"Of each class {sample}, as every model gets none of {tried} of any class right"
        return Shown(indices, [classes[label] for label in labels], f"{rule}; {common}")
    found = {label: int(np.flatnonzero(right & (y == label))[0]) for label in labels if right[y == label].any()}
    rule = f"Of each class {sample} that every model classifies correctly; {common}"
    if left_out := [classes[label] for label in labels if label not in found]:
        rule += f" Left out, as none of {tried} of the class is such: {', '.join(left_out)}."
    return Shown(list(found.values()), [classes[label] for label in found], rule)
