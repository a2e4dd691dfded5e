"""A user's own images: their facts are in own.json beside this file, and the parameters that follow from them here.

`make own` looks at the images, and writes own.json and these parameters.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robacc.datasets import cifar10, mnist, restricted_imagenet_64
from robacc.datasets.facts import DataSet

FILE = Path(__file__).with_suffix(".json")
FEWEST = 20  # training images


@dataclass(frozen=True)
class Form:
    """What serves images of one size: the parameters of the data set `like`, and the training `eps` in each norm.

    The smallest of the training sets has about `first` images of each class.
    """

    like: str
    facts: DataSet
    eps: Mapping[str, list[float]]
    first: int

    def nearest(self, norm: str) -> float:
        """Return the eps that is nearest to the paper's."""
        return min(self.eps[norm], key=lambda eps: abs(eps - self.facts.paper_eps[norm]))


# By the pixels of a side. The eps are those of the data set that is alike, without MNIST's l2 2.5 and linf 0.3: only
# where pixels are nearly black or white does an image keep its class in these.
FORMS = {
    28: Form("mnist", mnist.FACTS, {"l2": [0.5, 1.5], "linf": [0.1, 0.2]}, 10),
    32: Form("cifar10", cifar10.FACTS, {"l2": [0.3137, 1.2549], "linf": [0.0157, 0.0314]}, 100),
    64: Form("restricted_imagenet_64", restricted_imagenet_64.FACTS, {"l2": [0.5, 1.0], "linf": [0.005, 0.01]}, 100),
}


def facts_of(said: Mapping[str, Any]) -> DataSet:
    """Return the facts that the content of own.json has."""
    like = FORMS[said["size"]].facts
    return DataSet(
        title=f"own images ({said['name']})",
        letter="e",
        classes=tuple(said["classes"]),
        channels=like.channels,
        size=like.size,
        paper_eps=like.paper_eps,
        paper_recipe=like.paper_recipe,
        eps_in_255=like.eps_in_255,
        counts=said["counts"],
    )


def read() -> dict[str, Any]:
    """Return the content of own.json."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def __getattr__(name: str) -> DataSet:
    """Return `FACTS`, read anew, as `make own` writes the file while it runs."""
    if name != "FACTS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return facts_of(read())


def sizes(n_train: int, first: int) -> list[int]:
    """Return the training-set sizes below `n_train`: 1 and 3 times powers of ten, from `first` to under half of it.

    Of fewer than two such sizes there are a quarter and a half instead, as two decide C1.
    """
    ladder = [size for power in range(7) for size in (10**power, 3 * 10**power)]
    fit = [size for size in ladder if first <= size < n_train / 2]
    return fit if len(fit) > 1 else [n_train // 4, n_train // 2]


def parameters(said: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of params.yaml for the images of own.json, by their keys.

    Most are those that `params` has for the data set that is alike, with no more images than there are. C2 to C4 are
    read at the eps nearest to the paper's and at the largest, as on the other data sets; these balls have more seeds.
    """
    form, counts = FORMS[said["size"]], said["counts"]
    sets, evaluate, visualize = params["datasets"], params["evaluate"][form.like], params["visualize"][form.like]
    robust = [f"{norm}-{eps}" for norm, grid in form.eps.items() for eps in grid]
    papers = [f"{norm}-{form.nearest(norm)}" for norm in form.eps]
    largest = [f"{norm}-{max(grid)}" for norm, grid in form.eps.items()]
    read_at = [ball for ball in robust if ball in papers + largest]
    below = sizes(counts["train"], form.first * len(said["classes"]))
    n_images = min(evaluate["n_images"], counts["test"])
    recipe = params["recipes"][sets[form.like]["recipe"]]
    recipe = {**recipe, "n_classes": len(said["classes"]), "mean": said["mean"], "std": said["std"]}
    return {
        "balls.own": ["standard", *robust],
        "datasets.own.n_train": counts["train"],
        "datasets.own.sizes": [[size, 5 if at < 2 else 1] for at, size in enumerate(below)],
        "datasets.own.seeds.deciding": ["standard", *read_at],
        "datasets.own.natural.balls": papers,
        **{f"recipes.own.{key}": value for key, value in recipe.items()},
        "evaluate.own.n_images": n_images,
        "evaluate.own.eps": dict(form.eps),
        "evaluate.own.n_checked": min(evaluate["n_checked"], n_images),
        "autoattack.own.n_images": min(params["autoattack"][form.like]["n_images"], n_images),
        "autoattack.own.standard_in": papers,
        "visualize.own.n_per_class": min(visualize["n_per_class"], said["fewest"]),
        "visualize.own.large_eps": visualize["large_eps"],
        "visualize.own.search": visualize["search"],
        "visualize.own.n_images": min(visualize["n_images"], counts["test"]),
        "visualize.own.n_training": min(visualize["n_training"], counts["train"]),
        "visualize.own.judges.ball": papers[0],
        "claims.own.balls": read_at,
    }
