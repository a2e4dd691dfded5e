"""Define the schema of params.yaml, and read that file.

No other module of the library reads it. This module checks values and never changes them. So no stage depends on this
code (see `provenance`).
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML, MappingNode, SequenceNode, YAMLError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from robacc import balls
from robacc.datasets import facts as datasets
from robacc.nets import names as nets

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # pydantic exports it under no public name


class ParamsError(ValueError):
    """A value of params.yaml, or of a section that is built in Python, is not allowed.

    The message is one line for the user.
    """


class _OneLine(ModelMetaclass):
    """The metaclass of sections: a call with wrong values, as from Python, raises a ParamsError of one line.

    Pydantic's own error has several. It does not call the class for a section inside another, whose key it would lose.
    """

    def __call__(self, *args: object, **values: object) -> BaseModel:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise ParamsError(_message(error, self.__name__, f"help({self.__name__})")) from None


class Section(BaseModel, metaclass=_OneLine):
    """A section of params.yaml.

    A value must have the type of its field, without conversion. An unknown key is an error. The object is immutable.
    In Python, `Section(key=value, ...)` raises ParamsError, a ValueError, whose one line names the allowed values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _require(holds: bool, expected: str, got: object, *at: str | int) -> None:
    """Raise the error of the value `at` these keys of the section that is checked, unless what is expected holds."""
    if not holds:
        raise PydanticCustomError("wrong", "{expected}", {"expected": expected, "got": got, "at": at})


def _eps(value: object) -> object:
    if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
        raise ValueError("a number above 0 with a decimal point, such as 1.5 or 0.0314")
    return value


def _several(n: int) -> int:
    if not 2 <= n <= 1000:
        raise ValueError("at least 2 seeds, as an interval over seeds needs two, and at most 1000")
    return n


def _distinct(values: list) -> list:
    if len({str(value) for value in values}) != len(values):
        raise ValueError("values that are all different")
    return values


def _ball(word: object) -> object:
    try:
        return str(balls.parse(str(word)))
    except ValueError as error:
        raise ValueError(str(error).removeprefix("expected ").rsplit(", got ", 1)[0]) from None


def _trained(word: str) -> str:
    if word == "standard":
        raise ValueError("a ball of adversarial training, such as l2-1.5")
    return word


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return name

    return check


# The (channels, pixels of a side) that a net is for; None is any. A net that is not here is not checked.
IMAGES_OF: dict[str, tuple[int, int | None]] = {
    "cifar_resnet": (3, None),
    "narrow_cnn": (1, 28),
    "narrow_cnn_32": (3, 32),
    "narrow_cnn_64": (3, 64),
    "paper_cnn": (1, 28),
    "resnet50": (3, None),
}
MOST_NUMBERS = 5 * 10**8  # of one array: 4 GB in float64, of which a stage holds a few
N_OF_TWO_CLASSES = 11_263  # of MNIST: 5421 times 5, and 5842 times 4
CONFLICT = re.compile(r"^(<{7}|={7}|>{7}).*", re.MULTILINE)
SHOWN = 100  # characters of a wrong value


def _plain(name: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError("letters, digits, - and _, as dvc.yaml has the name in a key")
    return name


DatasetName = Annotated[str, AfterValidator(_one_of(datasets.NAMES))]
RecipeName = Annotated[str, AfterValidator(_plain)]
NetName = Annotated[str, AfterValidator(_one_of(nets.NAMES))]
Norm = Annotated[str, AfterValidator(_one_of(balls.NORMS))]


def _fits(n: int, width: int, width_of: str, *at: str) -> None:
    """Check that `n` rows of `width` numbers fit into memory."""
    most = MOST_NUMBERS // width
    expected = f"at most {most}, as rows of {width_of} = {width} numbers then take {n * width * 8 / 1e9:.0f} GB"
    _require(n <= most, f"{expected} and {MOST_NUMBERS * 8 // 10**9} GB are allowed", n, *at)


def _reaching(n_steps: int, step_size: float) -> None:
    """Check steps whose size falls linearly from `step_size`, in eps, to 0."""
    expected = f"at least {2 / n_steps:.4g}, so that {n_steps} steps add up to eps or more"
    _require(n_steps * step_size >= 2, expected, step_size, "step_size")


AttackName = Literal["apgd-ce", "apgd-t", "fab-t", "square"]
BallWord = Annotated[str, BeforeValidator(_ball)]
RobustBall = Annotated[BallWord, AfterValidator(_trained)]
Eps = Annotated[float, BeforeValidator(_eps)]
EpsGrid = Annotated[list[Eps], AfterValidator(_distinct), Field(min_length=1)]
# A limit stops a slip of the hand. Beyond it a number has no use, takes weeks, or more memory than a machine has.
Small = Annotated[float, Field(gt=0, le=1)]  # a tolerance, width or penalty, where 1 is the size of what it is for
Ratio = Annotated[float, Field(gt=0, le=1000)]  # an eps in units of eta
Strength = Annotated[float, Field(gt=0, le=36)]  # eta * sqrt(d); from 37 on errors are too rare for float64
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0.5, lt=1)]  # that x1 is the label
Count = Annotated[int, Field(ge=1, le=10**9)]  # of images, or of steps of training
Repeats = Annotated[int, Field(ge=1, le=10**6)]  # steps of an attack, epochs, trees: more takes weeks
Dimension = Annotated[int, Field(ge=1, le=10**12)]  # of a formula, which allocates nothing
Several = Annotated[int, AfterValidator(_several)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sizes = Annotated[list[Annotated[list[Count], Field(min_length=2, max_length=2)]], Field(min_length=1)]


class Natural(Section):
    """The shares of unperturbed examples in the batches of adversarial training.

    The balls in `balls` are trained with each of `fractions`. All other balls are trained with 0.0 only.
    """

    fractions: Annotated[list[Share], AfterValidator(_distinct), Field(min_length=1)]
    balls: Annotated[list[RobustBall], AfterValidator(_distinct)]

    @model_validator(mode="after")
    def _has_plain(self) -> "Natural":
        holds = 0.0 in self.fractions and 1.0 not in self.fractions
        _require(holds, "0.0, plain adversarial training, and not 1.0", self.fractions, "fractions")
        return self


class Seeds(Section):
    """The seeds of a data set's models: `first`, first + 1, and so on.

    On the full training set a ball has `n` of them, and the balls in `deciding` have `n_deciding`. The first
    `n_attacked` seeds of each ball are also trained half and half, attacked and drawn.
    """

    first: Seed
    n: Several
    deciding: Annotated[list[BallWord], AfterValidator(_distinct)]
    n_deciding: Several
    n_attacked: Several


class Dataset(Section):
    """The training jobs of one data set, and the order in which its test images are attacked.

    `sizes` has rows [training images, most seeds of a ball]. No ball has more seeds than on the full set.
    """

    recipe: str
    n_train: Count
    sizes: Sizes
    seeds: Seeds
    sample_seed: Seed
    natural: Natural

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Dataset":
        sizes = [size for size, _ in self.sizes]
        holds = sizes == sorted(set(sizes)) and sizes[-1] < self.n_train
        _require(holds, f"sizes that rise and stay under n_train = {self.n_train}", self.sizes, "sizes")
        for row, (_, n_seeds) in enumerate(self.sizes[:2]):
            _require(n_seeds > 1, "2 seeds or more at the two smallest sizes, which decide C1", n_seeds, "sizes", row)
        return self


class Own(Section):
    """How `make own` reads a user's own images: `size` is the pixels of a side to which it resizes them."""

    size: Literal["auto", 28, 32, 64]


class Recipe(Section):
    """The training recipe of one net.

    The comments of params.yaml explain each number and give the paper's.
    """

    arch: NetName
    n_classes: Annotated[int, Field(ge=2)]
    mean: list[Share]
    std: list[Annotated[float, Field(gt=0, le=1)]]
    optimizer: Literal["adam", "sgd"]
    lr: Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], Field(min_length=2)]
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    batch_size: Annotated[int, Field(ge=1, le=2**16)]
    augment: Literal["none", "crop_flip", "random_crop"]
    padding: Annotated[int, Field(ge=0)]
    steps: Sizes
    attack_steps: Repeats
    attack_step_size: Annotated[float, Field(gt=0, le=1)]
    eps_warmup: Share

    @model_validator(mode="after")
    def _reaches(self) -> "Recipe":
        reach = self.attack_steps * self.attack_step_size
        expected = "at least 1, or the attack cannot reach its eps"
        _require(reach >= 1, f"attack_steps * attack_step_size of {expected}", reach, "attack_steps")
        sizes = [size for size, _ in self.steps]
        holds = sizes[0] == 1 and sizes == sorted(set(sizes))
        _require(holds, "rows for rising numbers of training images, the first for 1", self.steps, "steps")
        knots, rates = zip(*self.lr, strict=True)
        holds = [knots[0], knots[-1]] == [0.0, 1.0] and list(knots) == sorted(set(knots))
        _require(holds, "knots that rise from 0.0 to 1.0", self.lr, "lr")
        _require(min(rates) >= 0 < max(rates) <= 1, "rates of 0 to 1, and one above 0", self.lr, "lr")
        n = len(self.mean)
        _require(len(self.std) == n, f"as many numbers as mean has, one a channel: {n}", self.std, "std")
        unused = self.padding == 0 or self.augment == "crop_flip"
        _require(unused, "0 where augment is not crop_flip", self.padding, "padding")
        _require(self.momentum == 0 or self.optimizer == "sgd", "0.0 with adam", self.momentum, "momentum")
        return self


class Training(Section):
    """The log, checkpoints and hardware of a training job."""

    log_every: Count
    checkpoint_every: Count
    hardware: Literal["auto", "cpu", "cuda", "cuda-fp32"]
    n_decoders: Annotated[int, Field(ge=0, le=256)]

    @model_validator(mode="after")
    def _multiple(self) -> "Training":
        every = self.checkpoint_every
        _require(every % self.log_every == 0, f"a multiple of log_every = {self.log_every}", every, "checkpoint_every")
        return self


class Attack(Section):
    """The evaluation attack: a quick run of PGD, restarts on what is nearly fooled, and a search without gradients.

    Sizes are shares of eps. The step size falls linearly from `step_size` to 0, after Croce & Hein 2020. A large first
    step fools most examples at once. A restart's ball shrinks from `first_radius` to 1. `restarts` has a number for
    each restart: the share of the way to being fooled that an example must have come (see `attack.adversary.near`).
    `n_queries` limits the search, for each norm. 0 is no search.
    """

    quick_steps: Repeats
    n_steps: Annotated[int, Field(ge=2, le=10**6)]
    step_size: Annotated[float, Field(gt=0, le=4)]
    first_radius: Annotated[float, Field(ge=1, le=4)]
    restarts: list[Share]
    n_queries: dict[Norm, Annotated[int, Field(ge=0, le=10**6)]]

    @model_validator(mode="after")
    def _reaches(self) -> "Attack":
        _reaching(min(self.quick_steps, self.n_steps), self.step_size)
        return self

    @field_validator("n_queries")
    @classmethod
    def _both_norms(cls, value: dict[str, int]) -> dict[str, int]:
        if set(value) != set(balls.NORMS):
            raise ValueError(f"a number for each of {', '.join(balls.NORMS)}")
        return value

    @classmethod
    def standard(cls) -> "Attack":
        """Return the attack with which the pipeline evaluates on MNIST.

        It repeats `evaluate.mnist.attack` of params.yaml, which is not installed with the library. A test compares the
        two.
        """
        restarts = [0.5, 0.7, 0.8, 0.85, 0.9, 0.9, 0.9, 0.9]
        steps = {"quick_steps": 10, "n_steps": 30, "step_size": 2.0, "first_radius": 2.0}
        return cls(**steps, restarts=restarts, n_queries={"l2": 0, "linf": 1500})


class Evaluate(Section):
    """The evaluation of the full-set models of one data set."""

    n_images: Count
    eps: dict[Norm, EpsGrid]
    attack: Attack
    seed: Seed
    n_checked: Count


class RestOfAutoAttack(Section):
    """The attacks of AutoAttack that run on some models only.

    These models are the ones of `balls` with a natural share of 0, on the first `n_seeds` of the attacked seeds.
    """

    attacks: Annotated[list[AttackName], AfterValidator(_distinct)]
    balls: Annotated[list[BallWord], AfterValidator(_distinct)]
    n_seeds: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _has_models(self) -> "RestOfAutoAttack":
        if self.attacks:
            _require(len(self.balls) > 0, f"balls for {', '.join(self.attacks)}", self.balls, "balls")
            _require(self.n_seeds > 0, f"1 or more, for {', '.join(self.attacks)}", self.n_seeds, "n_seeds")
        return self


class AutoAttack(Section):
    """AutoAttack on the full-set models of one data set, beside our PGD."""

    n_images: Annotated[int, Field(ge=2)]  # it runs in two parts
    attacks: Annotated[list[AttackName], AfterValidator(_distinct), Field(min_length=1)]
    rest: RestOfAutoAttack
    standard_in: Annotated[list[RobustBall], AfterValidator(_distinct), Field(min_length=1)]
    seed: Seed

    @model_validator(mode="after")
    def _once_each(self) -> "AutoAttack":
        for i, attack in enumerate(self.rest.attacks):
            expected = "an attack that is not in attacks, which run on every model"
            _require(attack not in self.attacks, expected, attack, "rest", "attacks", i)
        return self


class Judges(Section):
    """The independently trained models that classify large-eps examples."""

    ball: RobustBall
    seed: Seed


class Search(Section):
    """One of the runs that search a large ball for the image of highest loss, see `paper.large_eps.climb`."""

    n_steps: Annotated[int, Field(ge=2, le=10**6)]
    step_size: Annotated[float, Field(gt=0, le=4)]
    first_ball: Annotated[float, Field(ge=1, le=10)]

    @model_validator(mode="after")
    def _reaches(self) -> "Search":
        _reaching(self.n_steps, self.step_size)
        return self


class Visualize(Section):
    """The pictures of one data set."""

    n_per_class: Count
    large_eps: dict[Norm, Eps]  # Table 3
    search: Search
    seed: Seed
    n_points: Annotated[int, Field(ge=2, le=1000)]  # copies of every image drawn
    n_images: Annotated[int, Field(ge=2)]
    n_training: Count
    judges: Judges


class Fit(Section):
    """The classifiers that are trained on `n_train` samples of Section 2's distribution.

    The l2 penalty of an SVM follows from Theorem 2.2. `svm_eps` are training eps in units of eta.
    """

    n_train: Count
    svm_eps: Annotated[list[Ratio], AfterValidator(_distinct), Field(min_length=1)]
    svm_smoothing: Small
    svm_max_gap: Small
    logistic_c: Annotated[float, Field(gt=0, le=10**6)]  # so large is no penalty
    net_hidden: Count
    net_epochs: Repeats
    net_penalty: Annotated[float, Field(ge=0, le=10**6)]  # so large leaves no weight
    trees: Repeats
    tree_leaves: Annotated[int, Field(ge=2, le=2**16)]
    tree_rate: Annotated[float, Field(gt=0, le=1)]


class Frontier(Section):
    """The linear classifiers in the figure of Theorem 2.1."""

    n: Annotated[int, Field(ge=2, le=10**5)]  # rows of a table, for each p, strength and d
    d: Annotated[list[Dimension], AfterValidator(_distinct), Field(min_length=1)]


class MonteCarlo(Section):
    """The distribution and the number of examples with which the closed forms are checked."""

    n: Count
    d: Count
    strength: Strength

    @model_validator(mode="after")
    def _in_memory(self) -> "MonteCarlo":
        _fits(self.d, 2, "weights", "d")
        _fits(self.n, self.d + 1, "d + 1", "n")
        return self


class OptimumGrid(Section):
    """The grid of settings for which Theorem 2.2's SVM is computed."""

    p: Annotated[list[Probability], Field(min_length=1)]
    d: Annotated[list[Dimension], Field(min_length=1)]
    strengths: Annotated[list[Strength], Field(min_length=1)]
    eps_train: Annotated[list[Annotated[float, Field(ge=0, le=1000)]], Field(min_length=1)]


class DimensionGrid(Section):
    """The grid of settings for which the mean of the weak features is evaluated."""

    d: Annotated[list[Dimension], Field(min_length=1)]
    strengths: list[Strength]
    etas: list[Strength]  # at d = 1 they are the same


class Theory(Section):
    """The distribution of Section 2, and the classifiers trained on it."""

    p: Annotated[list[Probability], AfterValidator(_distinct), Field(min_length=1)]
    d: Count
    strengths: Annotated[list[Strength], AfterValidator(_distinct), Field(min_length=1)]
    eps: Annotated[float, Field(ge=2, le=1000)]
    n_seeds: Several
    n_test: Count
    n_steps: Repeats
    decimals: Annotated[int, Field(ge=6, le=15)]
    fit: Fit
    frontier: Frontier
    monte_carlo: MonteCarlo
    optimum: OptimumGrid
    dimension: DimensionGrid

    @model_validator(mode="after")
    def _in_memory(self) -> "Theory":
        _fits(self.d, 2, "weights", "d")
        sizes = {"n_test": self.n_test, "fit.n_train": self.fit.n_train, "fit.net_hidden": self.fit.net_hidden}
        for key, n in sizes.items():
            _fits(n, self.d + 1, "theory.d + 1", *key.split("."))
        return self


class LinearOptimum(Section):
    """The optimum of the linear model, from `paper.linear.fit_optimum` for each of `l2`."""

    l2: Annotated[list[Small], AfterValidator(_distinct), Field(min_length=1)]
    tolerance: Small
    max_iterations: Count


class LinearSgd(Section):
    """The paper's training of the linear model.

    The fields are arguments of `paper.linear.fit_sgd`.
    """

    lr: Annotated[float, Field(gt=0, le=1000)]  # pixels are in [0, 1], so gradients are small
    batch_size: Annotated[int, Field(ge=1, le=2**16)]
    epochs: Repeats
    seed: Seed


class LinearNoise(Section):
    """The noise-feature experiment of Appendix E."""

    n_features: Count
    sizes: Annotated[list[Count], AfterValidator(_distinct), Field(min_length=1)]
    n_seeds: Annotated[int, Field(ge=1, le=1000)]


class Linear(Section):
    """The linear model on two classes of MNIST (Figure 5, Table 5)."""

    classes: Annotated[list[int], AfterValidator(_distinct), Field(min_length=2, max_length=2)]
    eps: EpsGrid
    optimum: LinearOptimum
    sgd: LinearSgd
    used: Share
    thresholds: Annotated[list[Share], Field(min_length=1)]
    n_kept: Annotated[list[Count], AfterValidator(_distinct), Field(min_length=1)]
    noise: LinearNoise


class Claims(Section):
    """Where and how the claims about one data set's nets are decided.

    C2 to C4 are read at `balls`: the paper's eps and the largest eps of each norm. Accuracies that differ by less than
    `margin` count as equal.
    """

    balls: Annotated[list[RobustBall], AfterValidator(_distinct), Field(min_length=1)]
    margin: Annotated[float, Field(gt=0, lt=0.1)]


class Report(Section):
    """The confidence level of all intervals.

    It is over 0.5, as the two one-sided tests of "equal" use the level 2 * confidence - 1.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)]


class Params(Section):
    """The whole of params.yaml."""

    run: dict[DatasetName, list[str]]
    own: Own
    balls: dict[DatasetName, Annotated[list[BallWord], AfterValidator(_distinct), Field(min_length=1)]]
    datasets: dict[DatasetName, Dataset]
    recipes: dict[RecipeName, Recipe]
    training: Training
    evaluate: dict[DatasetName, Evaluate]
    autoattack: dict[DatasetName, AutoAttack]
    visualize: dict[DatasetName, Visualize]
    theory: Theory
    linear: Linear
    claims: dict[DatasetName, Claims]
    report: Report

    @model_validator(mode="after")
    def _sections_agree(self) -> "Params":
        for name, switch in self.run.items():
            _require(switch in ([], [name]), f"[{name}] or []", switch, "run", name)
        for section in ("run", "balls", "datasets", "evaluate", "autoattack", "visualize", "claims"):
            given = getattr(self, section).keys()
            _require(given == set(datasets.NAMES), f"the data sets {', '.join(datasets.NAMES)}", list(given), section)
        for name in datasets.NAMES:
            self._eps_fit(name)
            self._balls_agree(name)
            self._seeds_agree(name)
            self._recipe_fits(name)
            self._images_suffice(name)
        self._linear_fits()
        return self

    def _balls_agree(self, name: str) -> None:
        """Check that the lists that choose from balls.<data set> name balls of it: others would not be trained."""
        grid, dataset, autoattack = self.balls[name], self.datasets[name], self.autoattack[name]
        _require("standard" in grid, "standard too, which the others are compared with", grid, "balls", name)
        chosen: list[tuple[list[str], tuple[str, ...]]] = [
            (self.claims[name].balls, ("claims", name, "balls")),
            (dataset.seeds.deciding, ("datasets", name, "seeds", "deciding")),
            (dataset.natural.balls, ("datasets", name, "natural", "balls")),
            (autoattack.rest.balls, ("autoattack", name, "rest", "balls")),
        ]
        for words, at in chosen:
            for i, word in enumerate(words):
                _require(word in grid, f"a ball of balls.{name}, which has {', '.join(grid)}", word, *at, i)
        for i, word in enumerate(autoattack.standard_in):
            ball = balls.parse(word)
            tested = ball.eps in self.evaluate[name].eps[ball.norm]
            _require(tested, f"an eps of evaluate.{name}.eps", word, "autoattack", name, "standard_in", i)

    def _eps_fit(self, name: str) -> None:
        """Check that no ball is the whole box [0, 1]: such an eps nearly always is a number in steps of 1/255."""
        of, evaluate, visualize = datasets.of(name), self.evaluate[name], self.visualize[name]
        for section, norms in (("evaluate", evaluate.eps), ("visualize", visualize.large_eps)):
            key = "eps" if section == "evaluate" else "large_eps"
            in_order = f"{', '.join(balls.NORMS)} in this order"
            _require([*norms] == [*balls.NORMS], in_order, [*norms], section, name, key)

        def fits(norm: str, eps: float, got: object, *at: str | int) -> None:
            limit = (of.channels * of.size**2) ** (1 / float(norm.removeprefix("l")))
            expected = f"an eps under {limit:.4g} in {norm}, as images are in [0, 1]; 8/255 is 0.0314"
            _require(eps < limit, expected, got, *at)

        for i, word in enumerate(self.balls[name]):
            fits(balls.parse(word).norm, balls.parse(word).eps, word, "balls", name, i)
        for norm in balls.NORMS:
            for i, eps in enumerate(evaluate.eps[norm]):
                fits(norm, eps, eps, "evaluate", name, "eps", norm, i)
            eps = visualize.large_eps[norm]
            fits(norm, eps, eps, "visualize", name, "large_eps", norm)
        judge = balls.parse(visualize.judges.ball)
        fits(judge.norm, judge.eps, str(judge), "visualize", name, "judges", "ball")

    def _seeds_agree(self, name: str) -> None:
        seeds, rest, judges = self.datasets[name].seeds, self.autoattack[name].rest, self.visualize[name].judges
        most, at = max(seeds.n, seeds.n_deciding), ("datasets", name, "seeds")
        least = f"at least n = {seeds.n}, the seeds of the other balls"
        _require(seeds.n_deciding >= seeds.n, least, seeds.n_deciding, *at, "n_deciding")
        _require(seeds.n_attacked <= most, f"at most {most}, the seeds of a ball", seeds.n_attacked, *at, "n_attacked")
        attacked = f"at most datasets.{name}.seeds.n_attacked = {seeds.n_attacked}"
        _require(rest.n_seeds <= seeds.n_attacked, attacked, rest.n_seeds, "autoattack", name, "rest", "n_seeds")
        used = range(seeds.first, seeds.first + most)
        others = f"no seed of another model, {used[0]} to {used[-1]}"
        _require(judges.seed not in used, others, judges.seed, "visualize", name, "judges", "seed")

    def _recipe_fits(self, name: str) -> None:
        """Check the recipe of a data set against the facts about its images."""
        chosen, of = self.datasets[name].recipe, datasets.of(name)
        known = chosen in self.recipes
        _require(known, f"one of {', '.join(self.recipes)}", chosen, "datasets", name, "recipe")
        recipe, at = self.recipes[chosen], ("recipes", chosen)
        why = f", as datasets.{name}.recipe is {chosen} and {of.title} has"
        images = f"{why} images of {of.size} pixels"
        n_classes, channels = len(of.classes), IMAGES_OF.get(recipe.arch, (of.channels, of.size))
        _require(recipe.n_classes == n_classes, f"{n_classes}{why} so many classes", recipe.n_classes, *at, "n_classes")
        n = of.channels
        _require(len(recipe.mean) == n, f"{n} numbers, one a channel{why} {n}", recipe.mean, *at, "mean")
        fits = channels in ((of.channels, of.size), (of.channels, None))
        _require(fits, f"a net for {n} x {of.size} x {of.size} numbers{images}", recipe.arch, *at, "arch")
        augments = {"in_memory": ["none", "crop_flip"], "on_disk": ["random_crop"]}[of.stored]
        _require(recipe.augment in augments, f"{' or '.join(augments)}{images}", recipe.augment, *at, "augment")
        _require(recipe.padding < of.size, f"under {of.size}{images}", recipe.padding, *at, "padding")
        for i, share in enumerate(self.datasets[name].natural.fractions):
            n = round(share * recipe.batch_size)
            whole = f"a share of whole images in a batch of {recipe.batch_size}, one at least"
            holds = share == 0 or 0 < n < recipe.batch_size
            _require(holds, whole, share, "datasets", name, "natural", "fractions", i)

    def _images_suffice(self, name: str) -> None:
        """Check numbers of images against those that there are, of data sets for which that is known beforehand."""
        of, n_train = datasets.of(name), self.datasets[name].n_train
        evaluate, autoattack, visualize = self.evaluate[name], self.autoattack[name], self.visualize[name]
        there = f"the {{}} images of {of.title}"
        train, test = ((of.counts.get(split, math.inf), there.format(split)) for split in ("train", "test"))
        own, attacked = (n_train, f"datasets.{name}.n_train"), (evaluate.n_images, f"evaluate.{name}.n_images")
        limits: list[tuple[int, tuple[float, str], tuple[str, ...]]] = [
            (n_train, train, ("datasets", name, "n_train")),
            (visualize.n_training, own, ("visualize", name, "n_training")),
            (evaluate.n_images, test, ("evaluate", name, "n_images")),
            (evaluate.n_checked, attacked, ("evaluate", name, "n_checked")),
            (autoattack.n_images, attacked, ("autoattack", name, "n_images")),
            (visualize.n_images, test, ("visualize", name, "n_images")),
        ]
        for n, (most, what), at in limits:
            _require(n <= most, f"at most {most}, {what}", n, *at)
        most, at = test[0] / len(of.classes), ("visualize", name, "n_per_class")
        _require(visualize.n_per_class <= most, f"at most {most:g}, the images of a class", visualize.n_per_class, *at)

    def _linear_fits(self) -> None:
        of, linear = datasets.of("mnist"), self.linear
        for i, label in enumerate(linear.classes):
            expected = f"a class of MNIST, 0 to {len(of.classes) - 1}"
            _require(0 <= label < len(of.classes), expected, label, "linear", "classes", i)
        for i, eps in enumerate(linear.eps):
            _require(eps < 1, "an eps under 1 in linf, as images are in [0, 1]", eps, "linear", "eps", i)
        for i, n in enumerate(linear.n_kept):
            _require(n <= of.size**2, f"at most {of.size**2}, the pixels of an image", n, "linear", "n_kept", i)
        for i, n in enumerate(linear.noise.sizes):
            most = f"at most {N_OF_TWO_CLASSES}, the fewest training images of two classes"
            _require(n <= N_OF_TWO_CLASSES, most, n, "linear", "noise", "sizes", i)
        rows = "images, the largest of linear.noise.sizes,"
        _fits(linear.noise.n_features, max(linear.noise.sizes), rows, "linear", "noise", "n_features")


def _first(error: ValidationError) -> tuple[tuple[int | str, ...], dict]:
    """Return the path of the first wrong value, and what pydantic or `_require` says about it."""
    first: dict = dict(error.errors()[0])
    about = first.get("ctx", {}) if first["type"] == "wrong" else {}
    return (*(part for part in first["loc"] if part != "[key]"), *about.get("at", ())), {**first, **about}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _message(error: ValidationError, where: str, known_in: str) -> str:
    at, first = _first(error)
    key = ".".join(str(part) if str(part).isprintable() else repr(part) for part in at)
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}; remove it, or see {known_in} for what is known"
    if first["type"] == "missing":
        return f"{where}: {key} is missing"
    if first["type"] in ("model_type", "model_attributes_type", "dict_type"):
        expected = "a mapping, key: value"
    else:
        expected = first.get("expected") or first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    got = _shown(first.get("got", first["input"]))
    return f"{where}: expected {key + ': ' if key else ''}{expected}, got {got}"


def _line(text: str, at: tuple[int | str, ...]) -> int:
    """Return the line of the value `at` these keys of a YAML text, or of the innermost section of it that is there."""
    node = YAML(typ="safe", pure=True).compose(text)
    line = node.start_mark.line
    for part in at:
        if isinstance(node, MappingNode):
            found = {key.value: (key, value) for key, value in node.value}
            if str(part) not in found:
                break
            key, node = found[str(part)]
            line = key.start_mark.line
        elif isinstance(node, SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def read(data: bytes) -> tuple[str, object]:
    """Return the text of a YAML file and its content.

    Raises ParamsError with the line of what is no YAML.
    """

    def wrong(at: int, message: str) -> ParamsError:
        return ParamsError(f"params.yaml, line {at}: {message}")

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        at = data.count(b"\n", 0, error.start) + 1
        raise wrong(at, f"expected UTF-8, got the byte 0x{data[error.start]:02x}; save the file as UTF-8") from None
    if marker := CONFLICT.search(text):
        at = text.count("\n", 0, marker.start()) + 1
        raise wrong(at, f"expected no conflict of git, got {_shown(marker[0])}; keep one of the two sides")
    try:
        return text, YAML(typ="safe", pure=True).load(text)
    except ReaderError as error:
        at = text.count("\n", 0, error.position) + 1
        raise wrong(at, f"expected text, got the character {text[error.position]!r}; remove it") from None
    except MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        raise wrong(line, f"expected YAML, got what is none: {str(error.problem).splitlines()[0]}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(f"params.yaml: cannot be read: {str(error).splitlines()[0]}") from None


def load(path: Path = Path("params.yaml")) -> Params:
    """Return the parameters in the file `path`.

    Raises ParamsError, whose one line has the line in the file, the wrong key and the allowed values. The file is YAML
    1.2, as DVC writes it. 1e-05 is therefore a number. "8/255" is text and raises an error; write 0.0314.
    """
    try:
        text, content = read(path.read_bytes())
    except FileNotFoundError as error:
        raise ParamsError(f"params.yaml: cannot be read: {error}") from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else _shown(content)
        raise ParamsError(f"params.yaml: expected a mapping with the keys {', '.join(Params.model_fields)}, got {got}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        where = f"params.yaml, line {_line(text, _first(error)[0])}"
        raise ParamsError(_message(error, where, "the comments there")) from None
