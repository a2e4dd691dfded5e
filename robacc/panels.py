"""The data sets as the figures and the report name them, and which images the picture figures show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

NAMES = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "restricted_imagenet_64": "Restricted ImageNet (64 px)",
    "restricted_imagenet": "Restricted ImageNet",
}
LETTERS = dict(zip(NAMES, "abcd", strict=True))
PAPER_RECIPES = {
    "mnist": "mnist-paper",
    "cifar10": "cifar10-paper",
    "restricted_imagenet_64": "restricted-imagenet-paper",
    "restricted_imagenet": "restricted-imagenet-paper",
}
SUPER_CLASSES = ("dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect")
# By label; the tests hold them equal to those of the modules that make the data.
CLASSES = {
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "restricted_imagenet_64": SUPER_CLASSES,
    "restricted_imagenet": SUPER_CLASSES,
}


@dataclass(frozen=True)
class Shown:
    """Which images are shown: their places in pictures.npz, the names of their classes, and by which rule."""

    places: list[int]
    classes: list[str]
    rule: str


def choose(pictures: Iterable[Mapping[str, np.ndarray]], classes: tuple[str, ...]) -> Shown:
    """Return which images the figures show of the `pictures` of several models, all of the same images.

    Of each class the first that every model classifies correctly; a class without one is left out;
    if that is every class, the first image of each. The rule says in words what was done.
    """
    arrays = list(pictures)
    y = arrays[0]["y"]
    right = np.all([of_model["predicted"] == of_model["y"] for of_model in arrays], axis=0)
    labels = [int(label) for label in np.unique(y)]
    tried = f"the first {max(int((y == label).sum()) for label in labels)} test images"
    common = "the same images for every model; seed 0."
    if not right.any():
        places = [int(np.flatnonzero(y == label)[0]) for label in labels]
        rule = f"Of each class the first test image, as every model classifies none of {tried} of any class correctly"
        return Shown(places, [classes[label] for label in labels], f"{rule}; {common}")
    found = {label: int(np.flatnonzero(right & (y == label))[0]) for label in labels if right[y == label].any()}
    rule = f"Of each class the first test image that every model classifies correctly; {common}"
    if left_out := [classes[label] for label in labels if label not in found]:
        rule += f" Left out, as none of {tried} of the class is such: {', '.join(left_out)}."
    return Shown(list(found.values()), [classes[label] for label in found], rule)
