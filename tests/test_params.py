"""The committed params.yaml, and what the schema says to a wrong value."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from robacc.adversary import Attack
from robacc.params import AttackParams, AutoAttackParams, Natural, ParamsError, RecipeParams, load, model_id
from robacc.training import Recipe

FILE = Path(__file__).parent.parent / "params.yaml"
RECIPE = "recipes.mnist-laptop"
REMOVE = object()


def test_half_and_half_is_trained_at_its_eps_alone():
    natural = Natural(fractions=[0.0, 0.5], l2=[1.5], linf=[0.3])
    assert natural.at("l2", 1.5) == natural.at("linf", 0.3) == [0.0, 0.5]
    assert natural.at("l2", 0.3) == natural.at("linf", 1.5) == natural.at(None, 0.0) == [0.0]


def written(tmp_path: Path, changes: dict[str, Any]) -> Path:
    """Write params.yaml with `changes`, {"report.confidence": 0.9}; REMOVE takes a key away."""
    content = copy.deepcopy(YAML(typ="safe", pure=True).load(FILE))
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for name in parents:
            section = section[name]
        if value is REMOVE:
            del section[last]
        else:
            section[last] = value
    path = tmp_path / "params.yaml"
    YAML(typ="safe", pure=True).dump(content, path)
    return path


def error(tmp_path: Path, changes: dict[str, Any]) -> str:
    """Return the message with which the changed file is refused; it must be one line of the right kind."""
    with pytest.raises(ParamsError) as caught:
        load(written(tmp_path, changes))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    return message


def test_the_committed_file_is_accepted_and_written_back_unchanged(tmp_path):
    assert load(FILE) == load(written(tmp_path, {}))


def test_the_committed_grids_are_the_papers():
    trained = load(FILE).trained("mnist")
    assert trained[0] == (None, 0.0)
    assert {norm for norm, _ in trained[1:]} == {"l2", "linf"}
    assert all(isinstance(eps, float) and eps > 0 for _, eps in trained[1:])


def test_recipe_is_the_one_the_data_set_names(tmp_path):
    p = load(written(tmp_path, {"datasets.mnist.recipe": "mnist-paper"}))
    assert p.recipe("mnist") == p.recipes["mnist-paper"]
    assert p.recipe("mnist").arch == "paper_cnn"


def test_every_recipe_is_a_recipe_of_training():
    p = load(FILE)
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert set(RecipeParams.model_fields) == fields
    for recipe in p.recipes.values():
        assert set(dataclasses.asdict(Recipe(**recipe.model_dump()))) == fields


def test_the_attack_is_an_attack_of_the_adversary():
    fields = {field.name for field in dataclasses.fields(Attack)}
    assert set(AttackParams.model_fields) == fields
    attack = Attack(**load(FILE).evaluate["mnist"].attack.model_dump())
    assert attack.n_steps * attack.step_size / 2 >= 1  # trap 23
    assert attack.last_step_size == 0


# trap 36: every kind of wrong value, the words that its message must have
EPS = "a number above 0 with a decimal point, such as 1.5 or 0.0314"
WRONG = [
    # unknown and missing keys
    ("grid.mnist.l1", [0.5], ["unknown key grid.mnist.l1"]),
    ("epsilon", 0.5, ["unknown key epsilon"]),
    (f"{RECIPE}.learning_rate", 0.1, [f"unknown key {RECIPE}.learning_rate"]),
    ("report.confidence", REMOVE, ["report.confidence is missing"]),
    ("training", REMOVE, ["training is missing"]),
    ("grid.mnist", REMOVE, ["grid", "mnist"]),
    ("datasets.mnist", REMOVE, ["datasets", "mnist"]),
    ("evaluate.mnist", REMOVE, ["evaluate", "mnist"]),
    ("visualize.mnist", REMOVE, ["visualize", "mnist"]),
    ("grid.cifar", {"l2": [], "linf": []}, ["grid.cifar", "'mnist'"]),
    # eps
    ("grid.mnist.linf", ["8/255"], ["grid.mnist.linf.0", EPS, "'8/255'"]),
    ("grid.mnist.l2", [0.5, 1], ["grid.mnist.l2.1", EPS, "got 1"]),
    ("grid.mnist.l2", [0.0, 0.5], ["grid.mnist.l2.0", EPS, "got 0.0", "standard training"]),
    ("grid.mnist.l2", [0, 0.5], ["grid.mnist.l2.0", EPS, "got 0", "standard training"]),
    ("grid.mnist.l2", [-0.5], ["grid.mnist.l2.0", EPS, "got -0.5"]),
    ("grid.mnist.l2", [float("inf")], ["grid.mnist.l2.0", EPS, "got inf"]),
    ("grid.mnist.l2", [float("nan")], ["grid.mnist.l2.0", EPS, "got nan"]),
    ("grid.mnist.l2", [True], ["grid.mnist.l2.0", EPS, "got True"]),
    ("grid.mnist.l2", [0.5, 1.5, 0.5], ["grid.mnist.l2", "all different", "[0.5, 1.5, 0.5]"]),
    ("grid.mnist.l2", 0.5, ["grid.mnist.l2", "list", "0.5"]),
    ("evaluate.mnist.eps.l2", [], ["evaluate.mnist.eps.l2", "at least 1"]),
    ("evaluate.mnist.eps.linf", [1], ["evaluate.mnist.eps.linf.0", EPS, "got 1"]),
    ("visualize.mnist.large_eps.l2", 0.0, ["visualize.mnist.large_eps.l2", EPS, "got 0.0"]),
    # data sets
    ("datasets.mnist.recipe", "mnist", ["datasets.mnist.recipe", "one of", "mnist-laptop", "mnist-paper", "'mnist'"]),
    ("datasets.mnist.n_seeds", 0, ["datasets.mnist.n_seeds", "greater than or equal to 1", "got 0"]),
    ("datasets.mnist.n_seeds", 1.5, ["datasets.mnist.n_seeds", "integer", "1.5"]),
    ("datasets.mnist.n_seeds", "three", ["datasets.mnist.n_seeds", "integer", "'three'"]),
    (
        "datasets.mnist.sizes",
        [[300, 1], [100, 1]],
        ["datasets.mnist", "sizes that rise and stay under n_train = 60000"],
    ),
    ("datasets.mnist.sizes", [[100, 1], [100, 1]], ["datasets.mnist", "sizes that rise"]),
    ("datasets.mnist.sizes", [[100, 1], [60000, 1]], ["datasets.mnist", "stay under n_train = 60000"]),
    ("datasets.mnist.sizes", [100], ["datasets.mnist.sizes.0", "list", "100"]),
    ("datasets.mnist.sizes", [[100]], ["datasets.mnist.sizes.0", "2 items", "[100]"]),
    ("datasets.mnist.sizes", [], ["datasets.mnist.sizes", "at least 1 item", "[]"]),
    ("datasets.mnist.natural.fractions", [0.5], ["datasets.mnist.natural", "fractions that contain 0.0"]),
    ("datasets.mnist.natural.fractions", [0.0, 1.0], ["datasets.mnist.natural", "not 1.0"]),
    ("autoattack.mnist.n_images", 3000, ["autoattack.mnist.n_images of at most evaluate.mnist.n_images"]),
    ("autoattack.mnist.rest.seeds", [3], ["autoattack.mnist.rest.seeds below datasets.mnist.n_seeds = 3"]),
    ("autoattack.mnist.standard_eps.l2", 0.7, ["autoattack.mnist.standard_eps.l2 to stand in evaluate.mnist.eps.l2"]),
    ("datasets.mnist.natural.fractions", [0.0, 1.5], ["datasets.mnist.natural.fractions.1", "less than or equal to 1"]),
    ("datasets.mnist.natural.fractions", [0.0, 0.0], ["datasets.mnist.natural.fractions", "all different"]),
    # recipes
    (f"{RECIPE}.arch", "resnet", [f"{RECIPE}.arch", "'small_cnn', 'paper_cnn'", "'resnet'"]),
    (f"{RECIPE}.n_classes", 1, [f"{RECIPE}.n_classes", "greater than or equal to 2", "1"]),
    (f"{RECIPE}.augment", "blur", [f"{RECIPE}.augment", "'none', 'crop_flip' or 'random_crop'", "'blur'"]),
    (f"{RECIPE}.padding", 2, [RECIPE, "padding of 0 where augment is not crop_flip, got 2"]),
    (f"{RECIPE}.padding", -1, [f"{RECIPE}.padding", "greater than or equal to 0", "-1"]),
    (f"{RECIPE}.optimizer", "lion", [f"{RECIPE}.optimizer", "'adam' or 'sgd'", "'lion'"]),
    (f"{RECIPE}.std", [0.0], [f"{RECIPE}.std.0", "greater than 0", "0.0"]),
    (f"{RECIPE}.std", [float("inf")], [f"{RECIPE}.std.0", "finite", "inf"]),
    (f"{RECIPE}.mean", [float("nan")], [f"{RECIPE}.mean.0", "finite", "nan"]),
    (f"{RECIPE}.weight_decay", float("inf"), [f"{RECIPE}.weight_decay", "finite", "inf"]),
    (f"{RECIPE}.weight_decay", -0.1, [f"{RECIPE}.weight_decay", "greater than or equal to 0", "-0.1"]),
    (f"{RECIPE}.momentum", 1.0, [f"{RECIPE}.momentum", "less than 1", "1.0"]),
    (f"{RECIPE}.batch_size", -5, [f"{RECIPE}.batch_size", "greater than or equal to 1", "-5"]),
    (f"{RECIPE}.eps_warmup", 1.2, [f"{RECIPE}.eps_warmup", "less than or equal to 1", "1.2"]),
    (f"{RECIPE}.lr", [[0.0, 0.1]], [f"{RECIPE}.lr", "at least 2 items"]),
    (f"{RECIPE}.lr", [[0.1, 0.1], [1.0, 0.0]], [RECIPE, "lr whose knots rise from 0.0 to 1.0"]),
    (f"{RECIPE}.lr", [[0.0, 0.1], [0.8, 0.1], [0.5, 0.1], [1.0, 0.0]], [RECIPE, "lr"]),
    (f"{RECIPE}.lr", [[0.0, -0.1], [1.0, 0.0]], [RECIPE, "lr"]),
    (f"{RECIPE}.steps", [[10, 5]], [RECIPE, "steps whose first row is for 1 training image"]),
    # trap 23: an attack that cannot reach its eps, or a step longer than eps
    (f"{RECIPE}.attack_steps", 1, [RECIPE, "attack_steps * attack_step_size of at least 1"]),
    (f"{RECIPE}.attack_step_size", 1.5, [f"{RECIPE}.attack_step_size", "less than or equal to 1", "1.5"]),
    ("evaluate.mnist.attack.n_steps", 1, ["evaluate.mnist.attack", "steps that add up to 1 (of eps) or more"]),
    ("evaluate.mnist.attack.step_size", 0.0, ["evaluate.mnist.attack.step_size", "greater than 0", "0.0"]),
    (
        "evaluate.mnist.attack.losses",
        ["dlr"],
        ["evaluate.mnist.attack.losses.0", "'cross_entropy' or 'margin'", "'dlr'"],
    ),
    ("evaluate.mnist.attack.losses", [], ["evaluate.mnist.attack.losses", "at least 1 item"]),
    # the rest
    ("training.hardware", "gpu", ["training.hardware", "'auto', 'cpu', 'cuda' or 'cuda-fp32'", "'gpu'"]),
    ("training.checkpoint_every", 75, ["training", "checkpoint_every that is a multiple of log_every"]),
    ("evaluate.mnist.seed", 0.5, ["evaluate.mnist.seed", "integer", "0.5"]),
    ("visualize.mnist.n_points", 1, ["visualize.mnist.n_points", "greater than or equal to 2", "1"]),
    ("report.confidence", 95.0, ["report.confidence", "less than 1", "95.0"]),
    ("report.confidence", "95 %", ["report.confidence", "valid number", "'95 %'"]),
]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    WRONG,
    ids=[f"{key}={'removed' if value is REMOVE else value}" for key, value, _ in WRONG],
)
def test_a_wrong_value_is_refused_by_name(key, value, words, tmp_path):
    # trap 36
    message = error(tmp_path, {key: value})
    for word in words:
        assert word in message


def test_mean_and_std_have_as_many_channels(tmp_path):
    # trap 22
    assert RECIPE in error(tmp_path, {f"{RECIPE}.std": [0.3, 0.3, 0.3]})


@pytest.mark.parametrize("text", ["1e-05", "1.0e-5", "0.00001"])
def test_small_numbers_are_numbers_however_they_are_written(text, tmp_path):
    # trap 36: DVC writes 0.00001 back as 1e-05, which YAML 1.1 reads as text
    source = FILE.read_text()
    first = next(line for line in source.splitlines() if line.strip().startswith("l2: ["))
    path = tmp_path / "params.yaml"
    path.write_text(source.replace(first, f"    l2: [{text}]", 1))
    assert load(path).grid["mnist"].l2 == [1e-05]


def test_infinity_as_yaml_writes_it_is_refused(tmp_path):
    # trap 36
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("l2: [0.5, 1.5, 2.5]", "l2: [.inf]", 1))
    assert ".inf" in path.read_text()
    with pytest.raises(ParamsError, match="got inf"):
        load(path)


@pytest.mark.parametrize("text", ["grid: [", "- 1\n", "", "report: {confidence: 0.9}\nreport: {confidence: 0.5}\n"])
def test_a_file_that_is_no_set_of_parameters_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError) as caught:
        load(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ParamsError, match=r"cannot be read: .*absent\.yaml"):
        load(tmp_path / "absent.yaml")


def test_parameters_do_not_change_after_reading():
    with pytest.raises(ValueError, match="frozen"):
        load(FILE).report.confidence = 0.5


@pytest.mark.parametrize(
    ("norm", "eps", "name"),
    [(None, 0.0, "mnist-standard"), ("l2", 1.5, "mnist-l2-1.5"), ("linf", 0.1, "mnist-linf-0.1")],
)
def test_model_ids_are_the_names_in_dvc_yaml(norm, eps, name):
    assert model_id("mnist", norm, eps) == name


def test_model_ids_are_distinct():
    trained = load(FILE).trained("mnist")
    assert len({model_id("mnist", *ball) for ball in trained}) == len(trained)


@pytest.mark.parametrize(
    ("norm", "eps", "natural_fraction", "seed", "rest"),
    [
        ("l2", 1.5, 0.0, 0, True),
        ("l2", 1.5, 0.0, 1, False),  # another seed
        ("l2", 1.5, 0.5, 0, False),  # half natural
        ("l2", 0.5, 0.0, 0, False),  # another eps
        ("linf", 1.5, 0.0, 0, False),  # that eps in the other norm
        (None, 0.0, 0.0, 0, True),  # standard training
        (None, 0.0, 0.0, 2, False),
    ],
)
def test_the_rest_of_autoattack_is_for_the_models_it_names(norm, eps, natural_fraction, seed, rest):
    section = AutoAttackParams(
        n_images=256,
        attacks=["apgd-ce"],
        rest={"attacks": ["square"], "seeds": [0], "l2": [1.5], "linf": [0.3]},  # type: ignore[arg-type]
        standard_eps={"l2": 1.5, "linf": 0.3},  # type: ignore[arg-type]
        seed=0,
    )
    assert section.on(norm, eps, natural_fraction, seed) == (["apgd-ce", "square"] if rest else ["apgd-ce"])
