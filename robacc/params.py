"""The typed schema of params.yaml, and the only reader of that file."""

import math
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError


class ParamsError(ValueError):
    """A value of params.yaml is not allowed; the message is one line for the user."""


class Section(BaseModel):
    """Values are of the type they are written as, keys are known, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _eps(value: object) -> object:
    if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
        hint = "; standard training, eps 0, is always done" if value == 0 else ""
        raise ValueError(f"a number above 0 with a decimal point, such as 1.5 or 0.0314{hint}")
    return value


def _distinct(values: list) -> list:
    if len({str(value) for value in values}) != len(values):
        raise ValueError("values that are all different")
    return values


DatasetName = Literal["mnist", "cifar10", "restricted_imagenet_64", "restricted_imagenet"]
AttackName = Literal["apgd-ce", "apgd-t", "fab-t", "square"]
Eps = Annotated[float, BeforeValidator(_eps)]
EpsGrid = Annotated[list[Eps], AfterValidator(_distinct)]
FilledGrid = Annotated[EpsGrid, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0.5, lt=1)]  # of x1 being the label
Count = Annotated[int, Field(ge=1)]
Sizes = Annotated[list[Annotated[list[Count], Field(min_length=2, max_length=2)]], Field(min_length=1)]


class Grid(Section):
    """Training eps of one data set."""

    l2: EpsGrid
    linf: EpsGrid


class TestGrid(Section):
    """Test eps of one data set."""

    l2: FilledGrid
    linf: FilledGrid


class Natural(Section):
    """Shares of each batch left natural in adversarial training, and the eps where shares above 0 are trained."""

    fractions: Annotated[list[Share], AfterValidator(_distinct), Field(min_length=1)]
    l2: EpsGrid
    linf: EpsGrid

    def at(self, norm: str | None, eps: float) -> list[float]:
        """Return the shares with which the full-set models of one ball are trained."""
        return self.fractions if norm is not None and eps in getattr(self, norm) else [0.0]

    @model_validator(mode="after")
    def _has_plain(self) -> "Natural":
        if 0.0 not in self.fractions or 1.0 in self.fractions:
            raise ValueError("fractions that contain 0.0, plain adversarial training, and not 1.0")
        return self


class Dataset(Section):
    """What is trained on one data set."""

    recipe: str
    n_train: Count
    sizes: Sizes
    n_seeds: Count
    natural: Natural

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Dataset":
        sizes = [size for size, _ in self.sizes]
        if sizes != sorted(set(sizes)) or sizes[-1] >= self.n_train:
            raise ValueError(f"sizes that rise and stay under n_train = {self.n_train}")
        return self


class RecipeParams(Section):
    """How one net is trained; `robacc.training.Recipe` has the same fields."""

    arch: Literal["small_cnn", "paper_cnn", "small_cnn_32", "small_cnn_64", "cifar_resnet", "resnet50"]
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
    def _reaches(self) -> "RecipeParams":
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
    """What a training job writes and when, and on what it runs."""

    log_every: Count
    checkpoint_every: Count
    hardware: Literal["auto", "cpu", "cuda", "cuda-fp32"]
    n_decoders: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _multiple(self) -> "Training":
        if self.checkpoint_every % self.log_every:
            raise ValueError("checkpoint_every that is a multiple of log_every")
        return self


class AttackParams(Section):
    """The evaluation attack; `robacc.adversary.Attack` has the same fields."""

    n_steps: Annotated[int, Field(ge=1)]
    step_size: Annotated[float, Field(gt=0, le=2)]
    last_step_size: Annotated[float, Field(ge=0, le=2)]
    losses: Annotated[list[Literal["cross_entropy", "margin"]], Field(min_length=1)]
    give_up_below: Share

    @model_validator(mode="after")
    def _reaches(self) -> "AttackParams":
        if self.n_steps * (self.step_size + self.last_step_size) < 2:
            raise ValueError("steps that add up to 1 (of eps) or more, or the attack cannot reach its eps")
        return self


class Evaluate(Section):
    """How the full-set models of one data set are attacked."""

    n_images: Count
    eps: TestGrid
    attack: AttackParams
    seed: int
    n_checked: Count


class StandardEps(Section):
    """The eps at which AutoAttack attacks standard models."""

    l2: Eps
    linf: Eps


class RestOfAutoAttack(Section):
    """The attacks of AutoAttack that only some models meet: those of these seeds and eps, and standard ones."""

    attacks: Annotated[list[AttackName], AfterValidator(_distinct)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_distinct)]
    l2: EpsGrid
    linf: EpsGrid


class AutoAttackParams(Section):
    """AutoAttack on the full-set models of one data set, beside our PGD."""

    n_images: Count
    attacks: Annotated[list[AttackName], AfterValidator(_distinct), Field(min_length=1)]
    rest: RestOfAutoAttack
    standard_eps: StandardEps
    seed: int

    def on(self, norm: str | None, eps: float, natural_fraction: float, seed: int) -> list[AttackName]:
        """Return the attacks that one model meets, in their order; `norm` None is standard training."""
        chosen = norm is None or (eps in getattr(self.rest, norm) and natural_fraction == 0)
        return [*self.attacks, *(self.rest.attacks if chosen and seed in self.rest.seeds else [])]

    @model_validator(mode="after")
    def _once_each(self) -> "AutoAttackParams":
        if set(self.attacks) & set(self.rest.attacks):
            raise ValueError("every attack once, in attacks or in rest.attacks")
        return self


class LargeEps(Section):
    """The eps of the large adversarial examples (Table 3)."""

    l2: Eps
    linf: Eps


class Judges(Section):
    """The independently trained models that say what a large-eps example looks like."""

    norm: Literal["l2", "linf"]
    eps: Eps
    seed: Count


class Visualize(Section):
    """The pictures of one data set."""

    n_per_class: Count
    large_eps: LargeEps
    n_steps: Count
    step_size: Annotated[float, Field(gt=0, le=1)]
    n_points: Annotated[int, Field(ge=2)]
    n_images: Annotated[int, Field(ge=2)]
    judges: Judges


class Fit(Section):
    """How classifiers are trained on samples; `robacc.theory_samples.Fit` has the same fields."""

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
    """Which linear classifiers are drawn in the figure of Theorem 2.1."""

    n: Annotated[int, Field(ge=2)]
    d: Annotated[list[Count], AfterValidator(_distinct), Field(min_length=1)]


class MonteCarlo(Section):
    """The distribution on which the closed forms are checked, and the number of examples."""

    n: Count
    d: Count
    strength: Positive


class OptimumGrid(Section):
    """Where Theorem 2.2's SVM is computed."""

    p: Annotated[list[Probability], Field(min_length=1)]
    d: Annotated[list[Count], Field(min_length=1)]
    strengths: Annotated[list[Positive], Field(min_length=1)]
    eps_train: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]


class DimensionGrid(Section):
    """Where the mean of the weak features is computed."""

    d: Annotated[list[Count], Field(min_length=1)]
    strengths: list[Positive]
    etas: list[Positive]


class Theory(Section):
    """The distribution of Section 2 and what is trained on it."""

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
    """The optimum of the linear model: `robacc.linear.fit_optimum`, once for each `l2`."""

    l2: Annotated[list[Positive], AfterValidator(_distinct), Field(min_length=1)]
    tolerance: Positive
    max_iterations: Count


class LinearSgd(Section):
    """The paper's training of the linear model; `robacc.linear.fit_sgd` has the same arguments."""

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
    """The linear model on two classes of MNIST: Figure 5 and Table 5."""

    classes: Annotated[list[int], AfterValidator(_distinct), Field(min_length=2, max_length=2)]
    eps: FilledGrid
    optimum: LinearOptimum
    sgd: LinearSgd
    used: Share
    thresholds: Annotated[list[Share], Field(min_length=1)]
    n_kept: Annotated[list[Count], AfterValidator(_distinct), Field(min_length=1)]
    noise: LinearNoise


class Report(Section):
    """How results are stated."""

    confidence: Annotated[float, Field(gt=0, lt=1)]


class Params(Section):
    """The whole of params.yaml."""

    run: dict[DatasetName, list[DatasetName]]
    grid: dict[DatasetName, Grid]
    datasets: dict[DatasetName, Dataset]
    recipes: dict[str, RecipeParams]
    training: Training
    evaluate: dict[DatasetName, Evaluate]
    autoattack: dict[DatasetName, AutoAttackParams]
    visualize: dict[DatasetName, Visualize]
    theory: Theory
    linear: Linear
    report: Report

    @model_validator(mode="after")
    def _sections_agree(self) -> "Params":
        for name, switch in self.run.items():
            if switch not in ([], [name]):
                raise ValueError(f"run.{name} to be [{name}] or [], got {switch}")
        for section in ("run", "grid", "datasets", "evaluate", "autoattack", "visualize"):
            if getattr(self, section).keys() != set(get_args(DatasetName)):
                raise ValueError(f"{section} to have the data sets {', '.join(get_args(DatasetName))}")
        for name, dataset in self.datasets.items():
            if dataset.recipe not in self.recipes:
                known = ", ".join(self.recipes)
                raise ValueError(f"datasets.{name}.recipe to be one of {known}, got {dataset.recipe!r}")
            if self.autoattack[name].n_images > self.evaluate[name].n_images:
                raise ValueError(f"autoattack.{name}.n_images of at most evaluate.{name}.n_images, which PGD attacks")
            if max(self.autoattack[name].rest.seeds, default=0) >= dataset.n_seeds:
                raise ValueError(f"autoattack.{name}.rest.seeds below datasets.{name}.n_seeds = {dataset.n_seeds}")
            for norm in ("l2", "linf"):
                if getattr(self.autoattack[name].standard_eps, norm) not in getattr(self.evaluate[name].eps, norm):
                    raise ValueError(f"autoattack.{name}.standard_eps.{norm} to stand in evaluate.{name}.eps.{norm}")
        return self

    def datasets_run(self) -> list[DatasetName]:
        """Return the data sets that are run, in the paper's order."""
        return [name for name in get_args(DatasetName) if self.run[name]]

    def recipe(self, dataset: DatasetName) -> RecipeParams:
        """Return the recipe that `dataset` uses."""
        return self.recipes[self.datasets[dataset].recipe]

    def trained(self, dataset: DatasetName) -> list[tuple[str | None, float]]:
        """Return the (norm, eps) of every trained ball; standard training is (None, 0.0)."""
        grid = self.grid[dataset]
        return [(None, 0.0), *(("l2", eps) for eps in grid.l2), *(("linf", eps) for eps in grid.linf)]


def model_id(dataset: str, norm: str | None, eps: float) -> str:
    """Return the name of a trained ball in stages and files: mnist-standard, mnist-l2-1.5."""
    return f"{dataset}-standard" if norm is None else f"{dataset}-{norm}-{eps}"


def _message(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "extra_forbidden":
        return f"params.yaml: unknown key {key}; remove it, or see the comments there for what is known"
    if first["type"] == "missing":
        return f"params.yaml: {key} is missing"
    got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
    return f"params.yaml: expected {key + ': ' if key else ''}{expected}{got}"


def load(path: Path = Path("params.yaml")) -> Params:
    """Return the parameters. ParamsError says in one line which key is wrong and what is allowed.

    YAML 1.2 as DVC writes it: 1e-05 is a number. "8/255" is text and refused; write 0.0314.
    """
    try:
        return Params.model_validate(YAML(typ="safe", pure=True).load(path))
    except ValidationError as error:
        raise ParamsError(_message(error)) from None
    except (YAMLError, FileNotFoundError) as error:
        raise ParamsError(f"params.yaml: cannot be read: {str(error).splitlines()[0]}") from None
