"""Define the schema of params.yaml, and read that file.

No other module of the library reads it. This module checks values and never changes them. So no stage depends on this
code (see `provenance`).
"""

import math
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
from ruamel.yaml import YAML, YAMLError

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


def _eps(value: object) -> object:
    if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
        raise ValueError("a number above 0 with a decimal point, such as 1.5 or 0.0314")
    return value


def _several(n: int) -> int:
    if n < 2:
        raise ValueError("at least 2 seeds, as an interval over seeds needs two")
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


DatasetName = Annotated[str, AfterValidator(_one_of(datasets.NAMES))]
NetName = Annotated[str, AfterValidator(_one_of(nets.NAMES))]
Norm = Annotated[str, AfterValidator(_one_of(balls.NORMS))]
AttackName = Literal["apgd-ce", "apgd-t", "fab-t", "square"]
BallWord = Annotated[str, BeforeValidator(_ball)]
RobustBall = Annotated[BallWord, AfterValidator(_trained)]
Eps = Annotated[float, BeforeValidator(_eps)]
EpsGrid = Annotated[list[Eps], AfterValidator(_distinct), Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0.5, lt=1)]  # that x1 is the label
Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, AfterValidator(_several)]
Sizes = Annotated[list[Annotated[list[Count], Field(min_length=2, max_length=2)]], Field(min_length=1)]


class Natural(Section):
    """The shares of unperturbed examples in the batches of adversarial training.

    The balls in `balls` are trained with each of `fractions`. All other balls are trained with 0.0 only.
    """

    fractions: Annotated[list[Share], AfterValidator(_distinct), Field(min_length=1)]
    balls: Annotated[list[RobustBall], AfterValidator(_distinct)]

    @model_validator(mode="after")
    def _has_plain(self) -> "Natural":
        if 0.0 not in self.fractions or 1.0 in self.fractions:
            raise ValueError("fractions that contain 0.0, plain adversarial training, and not 1.0")
        return self


class Seeds(Section):
    """The seeds of a data set's models: `first`, first + 1, and so on.

    On the full training set a ball has `n` of them, and the balls in `deciding` have `n_deciding`. The first
    `n_attacked` seeds of each ball are also trained half and half, attacked and drawn.
    """

    first: Annotated[int, Field(ge=0)]
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
    sample_seed: int
    natural: Natural

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Dataset":
        sizes = [size for size, _ in self.sizes]
        if sizes != sorted(set(sizes)) or sizes[-1] >= self.n_train:
            raise ValueError(f"sizes that rise and stay under n_train = {self.n_train}")
        if min(n_seeds for _, n_seeds in self.sizes[:2]) < 2:
            raise ValueError(f"2 seeds or more at the two smallest sizes, which decide C1, got {self.sizes[:2]}")
        return self


class Recipe(Section):
    """The training recipe of one net.

    The comments of params.yaml explain each number and give the paper's.
    """

    arch: NetName
    n_classes: Annotated[int, Field(ge=2)]
    mean: list[float]
    std: list[Positive]
    optimizer: Literal["adam", "sgd"]
    lr: Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], Field(min_length=2)]
    weight_decay: Annotated[float, Field(ge=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    batch_size: Count
    augment: Literal["none", "crop_flip", "random_crop"]
    padding: Annotated[int, Field(ge=0)]
    steps: Sizes
    attack_steps: Count
    attack_step_size: Annotated[float, Field(gt=0, le=1)]
    eps_warmup: Share

    @model_validator(mode="after")
    def _reaches(self) -> "Recipe":
        if self.attack_steps * self.attack_step_size < 1:
            raise ValueError("attack_steps * attack_step_size of at least 1, or the attack cannot reach its eps")
        if self.steps[0][0] != 1:
            raise ValueError("steps whose first row is for 1 training image")
        knots, rates = zip(*self.lr, strict=True)
        if [knots[0], knots[-1]] != [0.0, 1.0] or list(knots) != sorted(knots) or min(rates) < 0:
            raise ValueError("lr whose knots rise from 0.0 to 1.0, with rates of at least 0")
        if len(self.mean) != len(self.std):
            raise ValueError(f"as many mean as std, one a channel, got {len(self.mean)} and {len(self.std)}")
        if self.augment != "crop_flip" and self.padding:
            raise ValueError(f"padding of 0 where augment is not crop_flip, got {self.padding}")
        return self


class Training(Section):
    """The log, checkpoints and hardware of a training job."""

    log_every: Count
    checkpoint_every: Count
    hardware: Literal["auto", "cpu", "cuda", "cuda-fp32"]
    n_decoders: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _multiple(self) -> "Training":
        if self.checkpoint_every % self.log_every:
            raise ValueError("checkpoint_every that is a multiple of log_every")
        return self


class Attack(Section):
    """The evaluation attack: a quick run of PGD, restarts on what is nearly fooled, and a search without gradients.

    Sizes are shares of eps. The step size falls linearly from `step_size` to 0, after Croce & Hein 2020. A large first
    step fools most examples at once. A restart's ball shrinks from `first_radius` to 1. `restarts` has a number for
    each restart: the share of the way to being fooled that an example must have come (see `attack.adversary.near`).
    `n_queries` limits the search, for each norm. 0 is no search.
    """

    quick_steps: Count
    n_steps: Annotated[int, Field(ge=2)]
    step_size: Annotated[float, Field(gt=0, le=4)]
    first_radius: Annotated[float, Field(ge=1, le=4)]
    restarts: list[Share]
    n_queries: dict[Norm, Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _reaches(self) -> "Attack":
        if min(self.quick_steps, self.n_steps) * self.step_size < 2:
            raise ValueError("steps that add up to 1 (of eps) or more, or the attack cannot reach its eps")
        return self

    @field_validator("n_queries")
    @classmethod
    def _both_norms(cls, value: dict[str, int]) -> dict[str, int]:
        if set(value) != set(balls.NORMS):
            raise ValueError(f"a number for each of {', '.join(balls.NORMS)}, got {value}")
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
    seed: int
    n_checked: Count


class RestOfAutoAttack(Section):
    """The attacks of AutoAttack that run on some models only.

    These models are the ones of `balls` with a natural share of 0, on the first `n_seeds` of the attacked seeds.
    """

    attacks: Annotated[list[AttackName], AfterValidator(_distinct)]
    balls: Annotated[list[BallWord], AfterValidator(_distinct)]
    n_seeds: Annotated[int, Field(ge=0)]


class AutoAttack(Section):
    """AutoAttack on the full-set models of one data set, beside our PGD."""

    n_images: Count
    attacks: Annotated[list[AttackName], AfterValidator(_distinct), Field(min_length=1)]
    rest: RestOfAutoAttack
    standard_in: Annotated[list[RobustBall], AfterValidator(_distinct), Field(min_length=1)]
    seed: int

    @model_validator(mode="after")
    def _once_each(self) -> "AutoAttack":
        if set(self.attacks) & set(self.rest.attacks):
            raise ValueError("every attack once, in attacks or in rest.attacks")
        return self


class Judges(Section):
    """The independently trained models that classify large-eps examples."""

    ball: RobustBall
    seed: Count


class Search(Section):
    """One of the runs that search a large ball for the image of highest loss, see `paper.large_eps.climb`."""

    n_steps: Annotated[int, Field(ge=2)]
    step_size: Annotated[float, Field(gt=0)]
    first_ball: Annotated[float, Field(ge=1)]


class Visualize(Section):
    """The pictures of one data set."""

    n_per_class: Count
    large_eps: dict[Norm, Eps]  # Table 3
    search: Search
    seed: int
    n_points: Annotated[int, Field(ge=2)]
    n_images: Annotated[int, Field(ge=2)]
    n_training: Count
    judges: Judges


class Fit(Section):
    """The classifiers that are trained on `n_train` samples of Section 2's distribution.

    The l2 penalty of an SVM follows from Theorem 2.2. `svm_eps` are training eps in units of eta.
    """

    n_train: Count
    svm_eps: Annotated[list[Positive], AfterValidator(_distinct), Field(min_length=1)]
    svm_smoothing: Positive
    svm_max_gap: Positive
    logistic_c: Positive
    net_hidden: Count
    net_epochs: Count
    net_penalty: Annotated[float, Field(ge=0)]
    trees: Count
    tree_leaves: Annotated[int, Field(ge=2)]
    tree_rate: Annotated[float, Field(gt=0, le=1)]


class Frontier(Section):
    """The linear classifiers in the figure of Theorem 2.1."""

    n: Annotated[int, Field(ge=2)]
    d: Annotated[list[Count], AfterValidator(_distinct), Field(min_length=1)]


class MonteCarlo(Section):
    """The distribution and the number of examples with which the closed forms are checked."""

    n: Count
    d: Count
    strength: Positive


class OptimumGrid(Section):
    """The grid of settings for which Theorem 2.2's SVM is computed."""

    p: Annotated[list[Probability], Field(min_length=1)]
    d: Annotated[list[Count], Field(min_length=1)]
    strengths: Annotated[list[Positive], Field(min_length=1)]
    eps_train: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]


class DimensionGrid(Section):
    """The grid of settings for which the mean of the weak features is evaluated."""

    d: Annotated[list[Count], Field(min_length=1)]
    strengths: list[Positive]
    etas: list[Positive]


class Theory(Section):
    """The distribution of Section 2, and the classifiers trained on it."""

    p: Annotated[list[Probability], AfterValidator(_distinct), Field(min_length=1)]
    d: Count
    strengths: Annotated[list[Positive], AfterValidator(_distinct), Field(min_length=1)]
    eps: Annotated[float, Field(ge=2)]
    n_seeds: Annotated[int, Field(ge=2)]
    n_test: Count
    n_steps: Count
    decimals: Annotated[int, Field(ge=6, le=15)]
    fit: Fit
    frontier: Frontier
    monte_carlo: MonteCarlo
    optimum: OptimumGrid
    dimension: DimensionGrid


class LinearOptimum(Section):
    """The optimum of the linear model, from `paper.linear.fit_optimum` for each of `l2`."""

    l2: Annotated[list[Positive], AfterValidator(_distinct), Field(min_length=1)]
    tolerance: Positive
    max_iterations: Count


class LinearSgd(Section):
    """The paper's training of the linear model.

    The fields are arguments of `paper.linear.fit_sgd`.
    """

    lr: Positive
    batch_size: Count
    epochs: Count
    seed: int


class LinearNoise(Section):
    """The noise-feature experiment of Appendix E."""

    n_features: Count
    sizes: Annotated[list[Count], AfterValidator(_distinct), Field(min_length=1)]
    n_seeds: Count


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
    margin: Annotated[float, Field(gt=0, lt=1)]


class Report(Section):
    """The confidence level of all intervals.

    It is over 0.5, as the two one-sided tests of "equal" use the level 2 * confidence - 1.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)]


class Params(Section):
    """The whole of params.yaml."""

    run: dict[DatasetName, list[str]]
    balls: dict[DatasetName, Annotated[list[BallWord], AfterValidator(_distinct), Field(min_length=1)]]
    datasets: dict[DatasetName, Dataset]
    recipes: dict[str, Recipe]
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
            if switch not in ([], [name]):
                raise ValueError(f"run.{name} to be [{name}] or [], got {switch}")
        for section in ("run", "balls", "datasets", "evaluate", "autoattack", "visualize", "claims"):
            if getattr(self, section).keys() != set(datasets.NAMES):
                raise ValueError(f"{section} to have the data sets {', '.join(datasets.NAMES)}")
        for name in datasets.NAMES:
            self._data_set_agrees(name)
        return self

    def _data_set_agrees(self, name: str) -> None:
        dataset, rest = self.datasets[name], self.autoattack[name].rest
        if dataset.recipe not in self.recipes:
            known = ", ".join(self.recipes)
            raise ValueError(f"datasets.{name}.recipe to be one of {known}, got {dataset.recipe!r}")
        if self.autoattack[name].n_images > self.evaluate[name].n_images:
            raise ValueError(f"autoattack.{name}.n_images of at most evaluate.{name}.n_images, which PGD attacks")
        seeds, most = dataset.seeds, f"datasets.{name}.seeds.n_attacked = {dataset.seeds.n_attacked}"
        if rest.n_seeds > seeds.n_attacked:
            raise ValueError(f"autoattack.{name}.rest.n_seeds of at most {most}")
        if "standard" not in self.balls[name]:
            raise ValueError(f"balls.{name} to have standard, which the others are compared with")
        if self.visualize[name].n_training > dataset.n_train:
            raise ValueError(f"visualize.{name}.n_training of at most datasets.{name}.n_train = {dataset.n_train}")
        for word in self.claims[name].balls:
            if word not in self.balls[name]:
                raise ValueError(f"claims.{name}.balls to be in balls.{name}, got {word}")
        used = range(seeds.first, seeds.first + max(seeds.n, seeds.n_deciding))
        if self.visualize[name].judges.seed in used:
            raise ValueError(f"visualize.{name}.judges.seed to be no seed of another model, {used[0]} to {used[-1]}")
        norms = {
            "evaluate.{}.eps": [*self.evaluate[name].eps],
            "visualize.{}.large_eps": [*self.visualize[name].large_eps],
        }
        for key, given in norms.items():
            if given != list(balls.NORMS):
                raise ValueError(f"{key.format(name)} to have {', '.join(balls.NORMS)} in this order")
        for word in self.autoattack[name].standard_in:
            ball = balls.parse(word)
            if ball.eps not in self.evaluate[name].eps[ball.norm]:
                raise ValueError(f"autoattack.{name}.standard_in to be in evaluate.{name}.eps, got {word}")


def _message(error: ValidationError, where: str, known_in: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key {key}; remove it, or see {known_in} for what is known"
    if first["type"] == "missing":
        return f"{where}: {key} is missing"
    got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"{where}: expected {key + ': ' if key else ''}{expected}{got}"


def load(path: Path = Path("params.yaml")) -> Params:
    """Return the parameters in the file `path`.

    Raises ParamsError, whose one line names the wrong key and the allowed values. The file is YAML 1.2, as DVC writes
    it. 1e-05 is therefore a number. "8/255" is text and raises an error; write 0.0314.
    """
    try:
        return Params.model_validate(YAML(typ="safe", pure=True).load(path))
    except ValidationError as error:
        raise ParamsError(_message(error, "params.yaml", "the comments there")) from None
    except (YAMLError, FileNotFoundError) as error:
        raise ParamsError(f"params.yaml: cannot be read: {str(error).splitlines()[0]}") from None
