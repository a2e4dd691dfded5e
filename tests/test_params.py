"""The committed params.yaml is read as it stands, and what the schema says to a wrong value."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from robacc.params import Attack, ParamsError, Section, load

FILE = Path(__file__).parent.parent / "params.yaml"
CONTENT = YAML(typ="safe", pure=True).load(FILE)
RECIPE, ATTACK = "recipes.mnist-laptop", "evaluate.mnist.attack"
REMOVE = object()


def written(folder: Path, changes: dict[str, Any]) -> Path:
    """Write params.yaml with `changes`, {"report.confidence": 0.9}; REMOVE takes a key away."""
    content = copy.deepcopy(CONTENT)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = content
        for name in parents:
            section = section[name]
        if value is REMOVE:
            del section[last]
        else:
            section[last] = value
    path = folder / "params.yaml"  # YAML holds JSON, which is written faster
    path.write_text(json.dumps(content).replace("Infinity", ".inf").replace("NaN", ".nan"))
    return path


def error(path: Path) -> str:
    """Return the message with which the file is refused: one line, which says once what it got."""
    with pytest.raises(ParamsError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    assert message.count(" got ") <= 1
    return message.removeprefix("params.yaml: ")


# ---- What is read is what stands there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"balls.mnist": ["linf-0.3", "l2-1e-05", "standard"], "datasets.mnist.natural.fractions": [0.5, 0.0]},
        {f"{ATTACK}.skip_below": None, "datasets.mnist.recipe": "mnist-paper", "linear.classes": [7, 5]},
        {"autoattack.mnist.rest": {"attacks": [], "balls": [], "seeds": []}, "run.mnist": []},
    ],
)
def test_params_decide_nothing(changes, tmp_path):
    path = written(tmp_path, changes) if changes else FILE
    stands = YAML(typ="safe", pure=True).load(path)
    assert json.dumps(load(path).model_dump(), sort_keys=True) == json.dumps(stands, sort_keys=True)


def sections(of: type[Section] = Section) -> list[type[Section]]:
    """Return all kinds of sections."""
    return [each for kind in of.__subclasses__() for each in (kind, *sections(kind))]


@pytest.mark.parametrize("section", sections())
def test_every_value_has_to_be_written(section):
    assert all(field.is_required() for field in section.model_fields.values())


def test_parameters_do_not_change_after_reading():
    with pytest.raises(ValueError, match="frozen"):
        load(FILE).report.confidence = 0.5


# ---- What is refused ----------------------------------------------------------------------------------------------

EPS = "a number above 0 with a decimal point, such as 1.5 or 0.0314"
BALL = "standard, or a norm and an eps above 0 such as l2-1.5 or linf-0.0314"
ROBUST = "a ball of adversarial training, such as l2-1.5, got 'standard'"
SETS = "one of cifar10, mnist, restricted_imagenet, restricted_imagenet_64"
# Every kind of wrong value, and the words that its message must have.
WRONG = [
    # unknown and missing keys
    ("epsilon", 0.5, ["unknown key epsilon;"]),
    ("datasets.mnist.eps", 0.5, ["unknown key datasets.mnist.eps;"]),
    (f"{RECIPE}.learning_rate", 0.1, [f"unknown key {RECIPE}.learning_rate;"]),
    ("report.confidence", REMOVE, ["report.confidence is missing"]),
    ("training", REMOVE, ["training is missing"]),
    ("training", 5, ["training", "dictionary", "got 5"]),
    # data sets
    *((f"{key}.cifar", [], [f"expected {key}.cifar: {SETS}, got 'cifar'"]) for key in ("run", "balls")),
    ("datasets.cifar", CONTENT["datasets"]["mnist"], [f"expected datasets.cifar: {SETS}, got 'cifar'"]),
    *(
        (f"{key}.mnist", REMOVE, [f"expected {key} to have the data sets cifar10, mnist, restricted_imagenet"])
        for key in ("run", "balls", "datasets", "evaluate", "autoattack", "visualize")
    ),
    ("run.mnist", ["cifar10"], ["expected run.mnist to be [mnist] or [], got ['cifar10']"]),
    ("run.mnist", True, ["run.mnist", "list", "got True"]),
    # norms
    ("evaluate.mnist.eps.l1", [0.5], ["expected evaluate.mnist.eps.l1: one of l2, linf, got 'l1'"]),
    ("visualize.mnist.large_eps.l1", 0.5, ["expected visualize.mnist.large_eps.l1: one of l2, linf, got 'l1'"]),
    ("evaluate.mnist.eps", {"linf": [0.3], "l2": [1.5]}, ["evaluate.mnist.eps to have l2, linf in this order"]),
    ("visualize.mnist.large_eps", {"l2": 4.0}, ["visualize.mnist.large_eps to have l2, linf in this order"]),
    # balls
    ("balls.mnist", ["l2-2"], ["expected balls.mnist.0: l2-2.0, got 'l2-2'"]),
    ("balls.mnist", ["standard", "l2-2.50"], ["expected balls.mnist.1: l2-2.5, got 'l2-2.50'"]),
    ("balls.mnist", ["linf-0.00001"], ["expected balls.mnist.0: linf-1e-05, got 'linf-0.00001'"]),
    ("balls.mnist", ["linf-8/255"], [f"expected balls.mnist.0: {BALL}, got 'linf-8/255'"]),
    ("balls.mnist", ["l1-0.5"], [f"expected balls.mnist.0: {BALL}, got 'l1-0.5'"]),
    ("balls.mnist", ["l2-0.0"], [f"expected balls.mnist.0: {BALL}, got 'l2-0.0'"]),
    ("balls.mnist", ["l2-inf"], [f"expected balls.mnist.0: {BALL}, got 'l2-inf'"]),
    ("balls.mnist", [1.5], [f"expected balls.mnist.0: {BALL}, got 1.5"]),
    ("balls.mnist", [None], [f"expected balls.mnist.0: {BALL}, got None"]),
    ("balls.mnist", ["l2-0.5", "standard", "l2-0.5"], ["expected balls.mnist: values that are all different, got"]),
    ("balls.mnist", "standard", ["balls.mnist", "list", "got 'standard'"]),
    ("balls.mnist", [], ["balls.mnist", "at least 1 item"]),
    ("datasets.mnist.natural.balls", ["l2-1.50"], ["expected datasets.mnist.natural.balls.0: l2-1.5, got 'l2-1.50'"]),
    ("datasets.mnist.natural.balls", ["l2-1.5"] * 2, ["datasets.mnist.natural.balls: values that are all different"]),
    ("datasets.mnist.natural.balls", ["standard"], [f"expected datasets.mnist.natural.balls.0: {ROBUST}"]),
    ("autoattack.mnist.rest.balls", ["linf-.3"], ["expected autoattack.mnist.rest.balls.0: linf-0.3, got 'linf-.3'"]),
    ("autoattack.mnist.rest.balls", ["standard"] * 2, ["autoattack.mnist.rest.balls: values that are all different"]),
    ("autoattack.mnist.standard_in", ["l2-1"], ["expected autoattack.mnist.standard_in.0: l2-1.0, got 'l2-1'"]),
    ("autoattack.mnist.standard_in", ["standard"], [f"expected autoattack.mnist.standard_in.0: {ROBUST}"]),
    ("autoattack.mnist.standard_in", ["l2-1.5"] * 2, ["autoattack.mnist.standard_in: values that are all different"]),
    ("autoattack.mnist.standard_in", [], ["autoattack.mnist.standard_in", "at least 1 item"]),
    (
        "autoattack.mnist.standard_in",
        ["l2-1.5", "l2-0.7"],
        ["expected autoattack.mnist.standard_in to be in evaluate.mnist.eps, got l2-0.7"],
    ),
    ("visualize.mnist.judges.ball", "l2-2", ["expected visualize.mnist.judges.ball: l2-2.0, got 'l2-2'"]),
    ("visualize.mnist.judges.ball", "standard", [f"expected visualize.mnist.judges.ball: {ROBUST}"]),
    # eps
    ("balls.mnist", ["l2-1.5"], ["expected balls.mnist to have standard"]),
    ("visualize.mnist.judges.seed", 2, ["expected visualize.mnist.judges.seed of at least datasets.mnist.n_seeds = 3"]),
    ("evaluate.mnist.eps.linf", ["8/255"], [f"expected evaluate.mnist.eps.linf.0: {EPS}, got '8/255'"]),
    ("evaluate.mnist.eps.l2", [0.5, 1], [f"expected evaluate.mnist.eps.l2.1: {EPS}, got 1"]),
    ("evaluate.mnist.eps.l2", [0.0], [f"expected evaluate.mnist.eps.l2.0: {EPS}, got 0.0"]),
    ("evaluate.mnist.eps.l2", [0], [f"expected evaluate.mnist.eps.l2.0: {EPS}, got 0"]),
    ("evaluate.mnist.eps.l2", [-0.5], [f"expected evaluate.mnist.eps.l2.0: {EPS}, got -0.5"]),
    ("evaluate.mnist.eps.l2", [float("inf")], [f"expected evaluate.mnist.eps.l2.0: {EPS}, got inf"]),
    ("evaluate.mnist.eps.l2", [float("nan")], [f"expected evaluate.mnist.eps.l2.0: {EPS}, got nan"]),
    ("evaluate.mnist.eps.l2", [True], [f"expected evaluate.mnist.eps.l2.0: {EPS}, got True"]),
    ("evaluate.mnist.eps.l2", [0.5, 1.5, 0.5], ["evaluate.mnist.eps.l2: values that are all different, got [0.5, 1.5"]),
    ("evaluate.mnist.eps.l2", 0.5, ["evaluate.mnist.eps.l2", "list", "got 0.5"]),
    ("evaluate.mnist.eps.l2", [], ["evaluate.mnist.eps.l2", "at least 1"]),
    ("visualize.mnist.large_eps.l2", 0.0, ["visualize.mnist.large_eps.l2", EPS, "got 0.0"]),
    # what is trained
    ("datasets.mnist.recipe", "mnist", ["datasets.mnist.recipe to be one of mnist-laptop, mnist-smoke, ", "'mnist'"]),
    ("datasets.mnist.n_seeds", 0, ["datasets.mnist.n_seeds", "greater than or equal to 1", "got 0"]),
    ("datasets.mnist.n_seeds", 1.5, ["datasets.mnist.n_seeds", "integer", "1.5"]),
    ("datasets.mnist.n_seeds", "three", ["datasets.mnist.n_seeds", "integer", "'three'"]),
    ("datasets.mnist.sizes", [[300, 1], [100, 1]], ["datasets.mnist: sizes that rise and stay under n_train = 60000"]),
    ("datasets.mnist.sizes", [[100, 1], [100, 1]], ["datasets.mnist: sizes that rise"]),
    ("datasets.mnist.sizes", [[100, 1], [60000, 1]], ["datasets.mnist", "stay under n_train = 60000"]),
    ("datasets.mnist.sizes", [100], ["datasets.mnist.sizes.0", "list", "100"]),
    ("datasets.mnist.sizes", [[100]], ["datasets.mnist.sizes.0", "2 items", "[100]"]),
    ("datasets.mnist.sizes", [], ["datasets.mnist.sizes", "at least 1 item", "[]"]),
    ("datasets.mnist.natural.fractions", [0.5], ["datasets.mnist.natural: fractions that contain 0.0"]),
    ("datasets.mnist.natural.fractions", [0.0, 1.0], ["datasets.mnist.natural", "not 1.0"]),
    ("datasets.mnist.natural.fractions", [0.0, 1.5], ["datasets.mnist.natural.fractions.1", "less than or equal to 1"]),
    ("datasets.mnist.natural.fractions", [0.0, 0.0], ["datasets.mnist.natural.fractions", "all different"]),
    # recipes
    (f"{RECIPE}.arch", "resnet", [f"{RECIPE}.arch: one of cifar_resnet, narrow_cnn, ", "got 'resnet'"]),
    (f"{RECIPE}.arch", "layers", [f"{RECIPE}.arch: one of ", "got 'layers'"]),
    (f"{RECIPE}.n_classes", 1, [f"{RECIPE}.n_classes", "greater than or equal to 2", "1"]),
    (f"{RECIPE}.augment", "blur", [f"{RECIPE}.augment", "'none', 'crop_flip' or 'random_crop'", "'blur'"]),
    (f"{RECIPE}.padding", 2, [f"{RECIPE}: padding of 0 where augment is not crop_flip, got 2"]),
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
    (f"{RECIPE}.lr", [[0.1, 0.1], [1.0, 0.0]], [f"{RECIPE}: lr whose knots rise from 0.0 to 1.0"]),
    (f"{RECIPE}.lr", [[0.0, 0.1], [0.8, 0.1], [0.5, 0.1], [1.0, 0.0]], [f"{RECIPE}: lr whose knots rise"]),
    (f"{RECIPE}.lr", [[0.0, -0.1], [1.0, 0.0]], [f"{RECIPE}: lr", "rates of at least 0"]),
    (f"{RECIPE}.steps", [[10, 5]], [f"{RECIPE}: steps whose first row is for 1 training image"]),
    # evaluation
    (f"{ATTACK}.losses", ["dlr"], [f"{ATTACK}.losses.0", "'cross_entropy' or 'margin'", "'dlr'"]),
    (f"{ATTACK}.losses", [], [f"{ATTACK}.losses", "at least 1 item"]),
    (f"{ATTACK}.skip_below", 1.5, [f"{ATTACK}.skip_below", "less than or equal to 1", "1.5"]),
    ("evaluate.mnist.seed", 0.5, ["evaluate.mnist.seed", "integer", "0.5"]),
    ("autoattack.mnist.n_images", 3000, ["autoattack.mnist.n_images of at most evaluate.mnist.n_images"]),
    ("autoattack.mnist.attacks", ["fgsm"], ["autoattack.mnist.attacks.0", "'apgd-ce', 'apgd-t'", "'fgsm'"]),
    ("autoattack.mnist.rest.attacks", ["apgd-ce"], ["autoattack.mnist: every attack once"]),
    ("autoattack.mnist.rest.seeds", [3], ["autoattack.mnist.rest.seeds below datasets.mnist.n_seeds = 3"]),
    # the rest
    ("training.hardware", "gpu", ["training.hardware", "'auto', 'cpu', 'cuda' or 'cuda-fp32'", "'gpu'"]),
    ("training.checkpoint_every", 75, ["training: checkpoint_every that is a multiple of log_every"]),
    ("visualize.mnist.n_points", 1, ["visualize.mnist.n_points", "greater than or equal to 2", "1"]),
    ("report.confidence", 95.0, ["report.confidence", "less than 1", "95.0"]),
    ("report.confidence", "95 %", ["report.confidence", "valid number", "'95 %'"]),
]


def named(value: object) -> str:
    """Return the name of a value in the names of tests."""
    return "removed" if value is REMOVE else str(value)[:40]


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=[f"{key}={named(value)}" for key, value, _ in WRONG])
def test_a_wrong_value_is_refused_by_name(key, value, words, tmp_path):
    # trap 36
    message = error(written(tmp_path, {key: value}))
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (f"{RECIPE}.attack_steps", 1, f"{RECIPE}: attack_steps * attack_step_size of at least 1"),
        (f"{RECIPE}.attack_step_size", 1.5, f"{RECIPE}.attack_step_size: less than or equal to 1"),
        (f"{ATTACK}.n_steps", 1, f"{ATTACK}: steps that add up to 1 (of eps) or more"),
        (f"{ATTACK}.step_size", 0.0, f"{ATTACK}.step_size: greater than 0"),
        (f"{ATTACK}.step_size", 8.0, f"{ATTACK}.step_size: less than or equal to 2"),
        ("visualize.mnist.step_size", 4.0, "visualize.mnist.step_size: less than or equal to 1"),
    ],
)
def test_an_attack_that_cannot_reach_its_eps_or_steps_far_beyond_is_refused(key, value, words, tmp_path):
    # trap 23, trap 36
    assert f"expected {words}" in error(written(tmp_path, {key: value}))


def test_mean_and_std_have_as_many_channels(tmp_path):
    # trap 22
    message = error(written(tmp_path, {f"{RECIPE}.std": [0.3, 0.3, 0.3]}))
    assert f"{RECIPE}: as many mean as std, one a channel, got 1 and 3" in message


# ---- What only text can be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-05", "1.0e-5", "0.00001"])
def test_small_numbers_are_numbers_however_they_are_written(text, tmp_path):
    # trap 36: DVC writes 0.00001 back as 1e-05, which YAML 1.1 reads as text
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("linf: [0.05, ", f"linf: [{text}, ", 1))
    assert load(path).evaluate["mnist"].eps["linf"][0] == 1e-05


@pytest.mark.parametrize("text", ["balls: [", "- 1\n", "", "report: {confidence: 0.9}\nreport: {confidence: 0.5}\n"])
def test_a_file_that_is_no_set_of_parameters_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "params.yaml").write_text(text)
    error(tmp_path / "params.yaml")


def test_infinity_as_yaml_writes_it_is_refused(tmp_path):
    # trap 36
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("linf: [0.05, ", "linf: [.inf, ", 1))
    assert f"expected evaluate.mnist.eps.linf.0: {EPS}, got inf" in error(path)


def test_a_missing_file_is_named(tmp_path):
    assert str(tmp_path / "absent.yaml") in error(tmp_path / "absent.yaml")


# ---- What is built in Python --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ["ce"]}, "Attack: expected losses.0: 'cross_entropy' or 'margin', got 'ce'"),
        ({"losses": []}, "Attack: expected losses: at least 1 item of 'cross_entropy' and 'margin'.*, got \\[\\]"),
        ({"n_steps": 0}, "Attack: expected n_steps: greater than or equal to 1, got 0"),
        ({"n_steps": 1}, r"Attack: expected steps that add up to 1 \(of eps\) or more, .*"),
        ({"eps": 0.3}, r"Attack: unknown key eps; remove it, or see help\(Attack\) for what is known"),
    ],
)
def test_a_wrong_value_in_python_is_refused_in_one_line(changes, message):
    with pytest.raises(ParamsError, match=f"^{message}$"):  # a dot is no line break
        Attack(**{**dict(Attack.standard()), **changes})
    with pytest.raises(ParamsError, match=r"^Attack: losses is missing$"):
        Attack(n_steps=40, step_size=1.0, last_step_size=0.0, skip_below=None)


def test_the_standard_attack_is_that_of_mnist():
    assert Attack.standard() == load(FILE).evaluate["mnist"].attack
