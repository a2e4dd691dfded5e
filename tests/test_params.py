"""The committed params.yaml is read as it stands, and what the schema says to a wrong value."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from robacc.params import Attack, Params, ParamsError, Section, load

FILE = Path(__file__).parent.parent / "params.yaml"
CONTENT = YAML(typ="safe", pure=True).load(FILE)
RECIPE, ATTACK = "recipes.mnist-laptop", "evaluate.mnist.attack"
REMOVE = object()


def changed(changes: dict[str, Any]) -> dict:
    """Return the content of params.yaml with `changes`, {"report.confidence": 0.9}; REMOVE takes a key away."""
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
    return content


def written(folder: Path, changes: dict[str, Any]) -> Path:
    """Write params.yaml with `changes`."""
    content = changed(changes)
    path = folder / "params.yaml"  # YAML holds JSON, which is written faster
    path.write_text(json.dumps(content).replace("Infinity", ".inf").replace("NaN", ".nan"))
    return path


def error(path: Path) -> str:
    """Return the message with which the file is refused: one line, which says once what it got."""
    with pytest.raises(ParamsError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml")
    assert message.count(" got ") <= 1
    return message.removeprefix("params.yaml").removeprefix(": ").removeprefix(", ")


def refused(changes: dict[str, Any]) -> str:
    """Return the message with which params.yaml with `changes` is refused, without parsing YAML, which is slow."""
    with pytest.raises(ParamsError) as caught:
        Params(**changed(changes))
    message = str(caught.value)
    assert "\n" not in message
    assert message.count(" got ") <= 1
    return message.removeprefix("Params: ")


# ---- What is read is what stands there ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "balls.mnist": ["linf-0.3", "l2-1e-05", "standard"],
            "claims.mnist.balls": ["l2-1e-05"],
            "datasets.mnist.seeds.deciding": [],
            "datasets.mnist.natural": {"fractions": [0.5, 0.0], "balls": ["linf-0.3"]},
        },
        {
            f"{ATTACK}.restarts": [],
            f"{ATTACK}.n_queries": {"l2": 0, "linf": 0},
            "datasets.mnist.recipe": "mnist-paper",
            "linear.classes": [7, 5],
        },
        {"autoattack.mnist.rest": {"attacks": [], "balls": [], "n_seeds": 0}, "run.mnist": []},
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
SETS = "one of cifar10, mnist, own, restricted_imagenet, restricted_imagenet_64"
# Every kind of wrong value, and the words that its message must have.
WRONG = [
    # unknown and missing keys
    ("epsilon", 0.5, ["unknown key epsilon;"]),
    ("datasets.mnist.eps", 0.5, ["unknown key datasets.mnist.eps;"]),
    (f"{RECIPE}.learning_rate", 0.1, [f"unknown key {RECIPE}.learning_rate;"]),
    ("report.confidence", REMOVE, ["report.confidence is missing"]),
    ("training", REMOVE, ["training is missing"]),
    ("training", 5, ["expected training: a mapping, key: value, got 5"]),
    # data sets
    *((f"{key}.cifar", [], [f"expected {key}.cifar: {SETS}, got 'cifar'"]) for key in ("run", "balls")),
    ("datasets.cifar", CONTENT["datasets"]["mnist"], [f"expected datasets.cifar: {SETS}, got 'cifar'"]),
    *(
        (f"{key}.mnist", REMOVE, [f"expected {key}: the data sets cifar10, mnist, own, restricted_imagenet"])
        for key in ("run", "balls", "datasets", "evaluate", "autoattack", "visualize", "claims")
    ),
    ("run.mnist", ["cifar10"], ["expected run.mnist: [mnist] or [], got ['cifar10']"]),
    ("run.mnist", True, ["run.mnist", "list", "got True"]),
    # norms
    ("evaluate.mnist.eps.l1", [0.5], ["expected evaluate.mnist.eps.l1: one of l2, linf, got 'l1'"]),
    ("visualize.mnist.large_eps.l1", 0.5, ["expected visualize.mnist.large_eps.l1: one of l2, linf, got 'l1'"]),
    ("evaluate.mnist.eps", {"linf": [0.3], "l2": [1.5]}, ["evaluate.mnist.eps: l2, linf in this order"]),
    ("visualize.mnist.large_eps", {"l2": 4.0}, ["visualize.mnist.large_eps: l2, linf in this order"]),
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
        ["expected autoattack.mnist.standard_in.1: an eps of evaluate.mnist.eps, got 'l2-0.7'"],
    ),
    ("visualize.mnist.judges.ball", "l2-2", ["expected visualize.mnist.judges.ball: l2-2.0, got 'l2-2'"]),
    ("visualize.mnist.judges.ball", "standard", [f"expected visualize.mnist.judges.ball: {ROBUST}"]),
    # eps
    ("balls.mnist", ["l2-1.5"], ["expected balls.mnist: standard too"]),
    *(
        (
            "visualize.mnist.judges.seed",
            seed,
            ["visualize.mnist.judges.seed: no seed of another model, 100 to 104"],
        )
        for seed in (100, 104)
    ),
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
    ("datasets.mnist.recipe", "mnist", ["datasets.mnist.recipe: one of mnist-laptop, mnist-smoke, ", "'mnist'"]),
    *(
        (f"datasets.mnist.seeds.{key}", n, [f"expected datasets.mnist.seeds.{key}: at least 2 seeds, as an interval"])
        for key in ("n", "n_deciding", "n_attacked")
        for n in (0, 1)
    ),
    ("datasets.mnist.seeds.n", 2.5, ["datasets.mnist.seeds.n", "integer", "2.5"]),
    ("datasets.mnist.seeds.first", -1, ["datasets.mnist.seeds.first", "greater than or equal to 0", "got -1"]),
    ("datasets.mnist.seeds.first", "ten", ["datasets.mnist.seeds.first", "integer", "'ten'"]),
    ("datasets.mnist.seeds.deciding", ["l2-2"], ["expected datasets.mnist.seeds.deciding.0: l2-2.0, got 'l2-2'"]),
    ("datasets.mnist.n_seeds", 3, ["unknown key datasets.mnist.n_seeds;"]),
    (
        "datasets.mnist.sizes",
        [[100, 1], [300, 2]],
        ["datasets.mnist.sizes.0: 2 seeds or more at the two smallest sizes"],
    ),
    ("datasets.mnist.sizes", [[100, 2], [300, 1]], ["2 seeds or more at the two smallest sizes, which decide C1"]),
    # claims
    ("claims.mnist.margin", 0.0, ["claims.mnist.margin", "greater than 0", "got 0.0"]),
    ("claims.mnist.margin", -0.001, ["claims.mnist.margin", "greater than 0", "got -0.001"]),
    ("claims.mnist.margin", 1.0, ["claims.mnist.margin", "less than 0.1", "got 1.0"]),
    (
        "claims.mnist.balls",
        ["l2-1.5", "l2-3.0"],
        ["expected claims.mnist.balls.1: a ball of balls.mnist, which has standard, ", "got 'l2-3.0'"],
    ),
    ("claims.mnist.balls", ["standard"], [f"expected claims.mnist.balls.0: {ROBUST}"]),
    ("claims.mnist.balls", [], ["claims.mnist.balls", "at least 1 item"]),
    ("claims.mnist.balls", ["l2-1.5", "l2-1.5"], ["claims.mnist.balls: values that are all different"]),
    (
        "datasets.mnist.sizes",
        [[300, 2], [100, 2]],
        ["datasets.mnist.sizes: sizes that rise and stay under n_train = 60000"],
    ),
    ("datasets.mnist.sizes", [[100, 2], [100, 2]], ["datasets.mnist.sizes: sizes that rise"]),
    ("datasets.mnist.sizes", [[100, 2], [60000, 2]], ["datasets.mnist", "stay under n_train = 60000"]),
    ("datasets.mnist.sizes", [100], ["datasets.mnist.sizes.0", "list", "100"]),
    ("datasets.mnist.sizes", [[100]], ["datasets.mnist.sizes.0", "2 items", "[100]"]),
    ("datasets.mnist.sizes", [], ["datasets.mnist.sizes", "at least 1 item", "[]"]),
    (
        "datasets.mnist.natural.fractions",
        [0.5],
        ["datasets.mnist.natural.fractions: 0.0, plain adversarial training, and not 1.0"],
    ),
    ("datasets.mnist.natural.fractions", [0.0, 1.0], ["datasets.mnist.natural", "not 1.0"]),
    ("datasets.mnist.natural.fractions", [0.0, 1.5], ["datasets.mnist.natural.fractions.1", "less than or equal to 1"]),
    ("datasets.mnist.natural.fractions", [0.0, 0.0], ["datasets.mnist.natural.fractions", "all different"]),
    # recipes
    (f"{RECIPE}.arch", "resnet", [f"{RECIPE}.arch: one of cifar_resnet, narrow_cnn, ", "got 'resnet'"]),
    (f"{RECIPE}.arch", "layers", [f"{RECIPE}.arch: one of ", "got 'layers'"]),
    (f"{RECIPE}.n_classes", 1, [f"{RECIPE}.n_classes", "greater than or equal to 2", "1"]),
    (f"{RECIPE}.augment", "blur", [f"{RECIPE}.augment", "'none', 'crop_flip' or 'random_crop'", "'blur'"]),
    (f"{RECIPE}.padding", 2, [f"{RECIPE}.padding: 0 where augment is not crop_flip, got 2"]),
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
    (f"{RECIPE}.lr", [[0.1, 0.1], [1.0, 0.0]], [f"{RECIPE}.lr: knots that rise from 0.0 to 1.0"]),
    (f"{RECIPE}.lr", [[0.0, 0.1], [0.8, 0.1], [0.5, 0.1], [1.0, 0.0]], [f"{RECIPE}.lr: knots that rise"]),
    (f"{RECIPE}.lr", [[0.0, -0.1], [1.0, 0.0]], [f"{RECIPE}.lr: rates of 0 to 1, and one above 0"]),
    (f"{RECIPE}.steps", [[10, 5]], [f"{RECIPE}.steps: rows for rising numbers of training images, the first for 1"]),
    # evaluation
    (f"{ATTACK}.restarts", [0.5, 1.5], [f"{ATTACK}.restarts.1", "less than or equal to 1", "1.5"]),
    (f"{ATTACK}.n_queries", {"linf": 100}, [f"{ATTACK}.n_queries", "a number for each of l2, linf"]),
    (f"{ATTACK}.n_queries", {"l2": -1, "linf": 0}, [f"{ATTACK}.n_queries.l2", "greater than or equal to 0", "-1"]),
    (f"{ATTACK}.first_radius", 0.5, [f"{ATTACK}.first_radius", "greater than or equal to 1", "0.5"]),
    (f"{ATTACK}.quick_steps", 0, [f"{ATTACK}.quick_steps", "greater than or equal to 1", "0"]),
    ("evaluate.mnist.seed", 0.5, ["evaluate.mnist.seed", "integer", "0.5"]),
    ("autoattack.mnist.n_images", 3000, ["autoattack.mnist.n_images: at most 2000, evaluate.mnist.n_images, got 3000"]),
    ("autoattack.mnist.attacks", ["fgsm"], ["autoattack.mnist.attacks.0", "'apgd-ce', 'apgd-t'", "'fgsm'"]),
    (
        "autoattack.mnist.rest.attacks",
        ["apgd-ce"],
        ["autoattack.mnist.rest.attacks.0: an attack that is not in attacks"],
    ),
    (
        "autoattack.mnist.rest.n_seeds",
        6,
        ["autoattack.mnist.rest.n_seeds: at most datasets.mnist.seeds.n_attacked = 3"],
    ),
    # fault: eps in steps of 1/255, or larger than the box
    *(
        (key, value, [f"expected {at}: an eps under {limit}, as images are in [0, 1]; 8/255 is 0.0314, got {got}"])
        for key, value, at, limit, got in [
            ("balls.mnist", [*CONTENT["balls"]["mnist"], "linf-76.5"], "balls.mnist.7", "1 in linf", "'linf-76.5'"),
            ("balls.cifar10", [*CONTENT["balls"]["cifar10"], "linf-8.0"], "balls.cifar10.5", "1 in linf", "'linf-8.0'"),
            ("balls.mnist", [*CONTENT["balls"]["mnist"], "l2-28.0"], "balls.mnist.7", "28 in l2", "'l2-28.0'"),
            ("evaluate.mnist.eps.linf", [0.3, 8.0], "evaluate.mnist.eps.linf.1", "1 in linf", "8.0"),
            ("evaluate.cifar10.eps.l2", [80.0], "evaluate.cifar10.eps.l2.0", "55.43 in l2", "80.0"),
            ("visualize.mnist.large_eps.linf", 1.0, "visualize.mnist.large_eps.linf", "1 in linf", "1.0"),
            ("visualize.mnist.judges.ball", "linf-2.0", "visualize.mnist.judges.ball", "1 in linf", "'linf-2.0'"),
        ]
    ),
    ("linear.eps", [0.2, 51.0], ["linear.eps.1: an eps under 1 in linf", "got 51.0"]),
    # fault: classes that are no two classes of MNIST
    ("linear.classes", [5, 17], ["linear.classes.1: a class of MNIST, 0 to 9, got 17"]),
    ("linear.classes", [-1, 7], ["linear.classes.0: a class of MNIST, 0 to 9, got -1"]),
    ("linear.classes", [5, 5], ["linear.classes: values that are all different"]),
    ("linear.n_kept", [1, 785], ["linear.n_kept.1: at most 784, the pixels of an image, got 785"]),
    ("linear.noise.sizes", [20, 12000], ["linear.noise.sizes.1: at most 11263, ", "got 12000"]),
    # fault: a ball that is not in the grid is silently not trained
    *(
        (key, ["l2-9.5"], [f"expected {key}.0: a ball of balls.mnist, which has standard, l2-0.5, ", "got 'l2-9.5'"])
        for key in (
            "datasets.mnist.natural.balls",
            "datasets.mnist.seeds.deciding",
            "autoattack.mnist.rest.balls",
            "claims.mnist.balls",
        )
    ),
    ("balls.mnist", ["standard"], ["expected claims.mnist.balls.0: a ball of balls.mnist, which has standard, got"]),
    # fault: more images than there are
    ("datasets.mnist.n_train", 60001, ["datasets.mnist.n_train: at most 60000, the train images of MNIST, got 60001"]),
    ("datasets.cifar10.n_train", 60000, ["datasets.cifar10.n_train: at most 50000, the train images of CIFAR-10"]),
    ("evaluate.mnist.n_images", 10001, ["evaluate.mnist.n_images: at most 10000, the test images of MNIST, got 10001"]),
    ("evaluate.mnist.n_checked", 2001, ["evaluate.mnist.n_checked: at most 2000, evaluate.mnist.n_images, got 2001"]),
    ("visualize.mnist.n_images", 10001, ["visualize.mnist.n_images: at most 10000, the test images of MNIST"]),
    ("visualize.mnist.n_per_class", 1001, ["visualize.mnist.n_per_class: at most 1000, the images of a class"]),
    ("autoattack.mnist.n_images", 1, ["autoattack.mnist.n_images", "greater than or equal to 2", "got 1"]),
    # fault: a recipe that does not fit the images
    (
        "datasets.mnist.recipe",
        "cifar10-smoke",
        ["recipes.cifar10-smoke.mean: 1 numbers", "datasets.mnist.recipe is cifar"],
    ),
    ("datasets.cifar10.recipe", "restricted-imagenet-smoke", ["recipes.restricted-imagenet-smoke.n_classes: 10, as "]),
    (
        f"{RECIPE}.n_classes",
        5,
        [f"{RECIPE}.n_classes: 10, as datasets.mnist.recipe is mnist-laptop and MNIST", "got 5"],
    ),
    (f"{RECIPE}.arch", "narrow_cnn_32", [f"{RECIPE}.arch: a net for 1 x 28 x 28 numbers", "got 'narrow_cnn_32'"]),
    (f"{RECIPE}.arch", "cifar_resnet", [f"{RECIPE}.arch: a net for 1 x 28 x 28 numbers", "got 'cifar_resnet'"]),
    (f"{RECIPE}.augment", "random_crop", [f"{RECIPE}.augment: none or crop_flip, as ", "got 'random_crop'"]),
    ("recipes.cifar10-laptop.padding", 32, ["recipes.cifar10-laptop.padding: under 32, as ", "got 32"]),
    ("datasets.mnist.natural.fractions", [0.0, 0.001], ["fractions.1: a share of whole images in a batch of 100"]),
    # fault: numbers of a wrong order
    (f"{RECIPE}.lr", [[0.0, 5.0], [1.0, 0.0]], [f"{RECIPE}.lr: rates of 0 to 1, and one above 0"]),
    (f"{RECIPE}.lr", [[0.0, 0.0], [1.0, 0.0]], [f"{RECIPE}.lr: rates of 0 to 1, and one above 0"]),
    (f"{RECIPE}.steps", [[1, 5], [300, 9], [100, 7]], [f"{RECIPE}.steps: rows for rising numbers of training images"]),
    (f"{RECIPE}.mean", [33.3], [f"{RECIPE}.mean.0: less than or equal to 1, got 33.3"]),
    (f"{RECIPE}.std", [78.6], [f"{RECIPE}.std.0: less than or equal to 1, got 78.6"]),
    (f"{RECIPE}.weight_decay", 5.0, [f"{RECIPE}.weight_decay: less than 1, got 5.0"]),
    (f"{RECIPE}.momentum", 0.9, [f"{RECIPE}.momentum: 0.0 with adam, got 0.9"]),
    (f"{RECIPE}.batch_size", 10**9, [f"{RECIPE}.batch_size: less than or equal to 65536"]),
    ("training.n_decoders", 10**6, ["training.n_decoders: less than or equal to 256"]),
    ("datasets.mnist.seeds.n", 10**9, ["datasets.mnist.seeds.n: at least 2 seeds", "at most 1000, got 1000000000"]),
    ("theory.d", 10**12, ["theory.d: less than or equal to 1000000000"]),
    ("theory.d", 10**9, ["theory.d: at most 250000000, as rows of weights = 2 numbers then take 16 GB"]),
    ("theory.d", 10**6, ["theory.n_test: at most 499, as rows of theory.d + 1 = 1000001 numbers then take 16 GB"]),
    (
        "theory.fit.n_train",
        10**7,
        ["theory.fit.n_train: at most 998003, as rows of theory.d + 1 = 501", "got 10000000"],
    ),
    ("theory.fit.net_hidden", 10**8, ["theory.fit.net_hidden: at most 998003, as rows of theory.d + 1 = 501"]),
    ("theory.monte_carlo.n", 10**8, ["theory.monte_carlo.n: at most 9803921, as rows of d + 1 = 51 numbers"]),
    ("theory.fit.trees", 10**9, ["theory.fit.trees: less than or equal to 1000000"]),
    ("theory.strengths", [40.0], ["theory.strengths.0: less than or equal to 36"]),
    ("theory.optimum.d", [10**15], ["theory.optimum.d.0: less than or equal to 1000000000000"]),
    ("theory.frontier.n", 10**9, ["theory.frontier.n: less than or equal to 100000"]),
    ("linear.noise.n_features", 10**7, ["linear.noise.n_features: at most 166666, as rows of images", "got 10000000"]),
    ("evaluate.mnist.attack.n_steps", 10**9, ["evaluate.mnist.attack.n_steps: less than or equal to 1000000"]),
    ("datasets.mnist.seeds.n_deciding", 2, ["datasets.mnist.seeds.n_deciding: at least n = 3", "got 2"]),
    ("datasets.mnist.seeds.n_attacked", 6, ["datasets.mnist.seeds.n_attacked: at most 5, the seeds of a ball, got 6"]),
    ("evaluate.mnist.seed", -1, ["evaluate.mnist.seed: greater than or equal to 0, got -1"]),
    ("evaluate.mnist.seed", 2**32, ["evaluate.mnist.seed: less than 4294967296"]),
    ("autoattack.mnist.rest.balls", [], ["autoattack.mnist.rest.balls: balls for apgd-t, square, got []"]),
    ("autoattack.mnist.rest.n_seeds", 0, ["autoattack.mnist.rest.n_seeds: 1 or more, for apgd-t, square, got 0"]),
    # fault: text of params.yaml in the commands of dvc.yaml
    ("balls.mnist", ["standard", "l2-0.5; touch x"], [f"expected balls.mnist.1: {BALL}, got 'l2-0.5; touch x'"]),
    ("run.mnist", ["mnist; touch x"], ["expected run.mnist: [mnist] or [], got ['mnist; touch x']"]),
    ("recipes.two words", CONTENT["recipes"]["mnist-smoke"], ["recipes.two words: letters, digits, - and _"]),
    # the rest
    ("training.hardware", "gpu", ["training.hardware", "'auto', 'cpu', 'cuda' or 'cuda-fp32'", "'gpu'"]),
    ("training.checkpoint_every", 75, ["training.checkpoint_every: a multiple of log_every = 50, got 75"]),
    (
        "visualize.mnist.n_training",
        60001,
        ["expected visualize.mnist.n_training: at most 60000, datasets.mnist.n_train, got 60001"],
    ),
    ("visualize.mnist.n_points", 1, ["visualize.mnist.n_points", "greater than or equal to 2", "1"]),
    ("report.confidence", 95.0, ["report.confidence", "less than 1", "95.0"]),
    ("report.confidence", 0.5, ["report.confidence", "greater than 0.5", "got 0.5"]),
    ("report.confidence", "95 %", ["report.confidence", "valid number", "'95 %'"]),
]


def named(value: object) -> str:
    """Return the name of a value in the names of tests."""
    return "removed" if value is REMOVE else str(value)[:40]


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=[f"{key}={named(value)}" for key, value, _ in WRONG])
def test_a_wrong_value_is_refused_by_name(key, value, words):
    # trap 36
    message = refused({key: value})
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (f"{RECIPE}.attack_steps", 1, f"{RECIPE}.attack_steps: attack_steps * attack_step_size of at least 1"),
        (f"{RECIPE}.attack_step_size", 1.5, f"{RECIPE}.attack_step_size: less than or equal to 1"),
        (f"{ATTACK}.quick_steps", 0, f"{ATTACK}.quick_steps: greater than or equal to 1"),
        (f"{ATTACK}.step_size", 0.1, f"{ATTACK}.step_size: at least 0.2, so that 10 steps add up to eps or more"),
        (f"{ATTACK}.step_size", 0.0, f"{ATTACK}.step_size: greater than 0"),
        (f"{ATTACK}.step_size", 8.0, f"{ATTACK}.step_size: less than or equal to 4"),
        ("visualize.mnist.search.step_size", 0.0, "visualize.mnist.search.step_size: greater than 0"),
        ("visualize.mnist.search.step_size", 0.05, "visualize.mnist.search.step_size: at least 0.06667, so that 30"),
        ("visualize.mnist.search.n_steps", 1, "visualize.mnist.search.n_steps: greater than or equal to 2"),
        ("visualize.mnist.search.first_ball", 0.5, "visualize.mnist.search.first_ball: greater than or equal to 1"),
    ],
)
def test_an_attack_that_cannot_reach_its_eps_or_steps_far_beyond_is_refused(key, value, words):
    # trap 23, trap 36
    assert f"expected {words}" in refused({key: value})


def test_mean_and_std_have_as_many_channels():
    # trap 22
    message = refused({f"{RECIPE}.std": [0.3, 0.3, 0.3]})
    assert f"{RECIPE}.std: as many numbers as mean has, one a channel: 1, got [0.3, 0.3, 0.3]" in message


# ---- What only text can be ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-05", "1.0e-5", "0.00001"])
def test_small_numbers_are_numbers_however_they_are_written(text, tmp_path):
    # trap 36: DVC writes 0.00001 back as 1e-05, which YAML 1.1 reads as text
    path = tmp_path / "params.yaml"
    path.write_text(FILE.read_text().replace("linf: [0.05, ", f"linf: [{text}, ", 1))
    assert load(path).evaluate["mnist"].eps["linf"][0] == 1e-05


# fault: params.yaml with tabs, conflict markers, duplicate keys, bytes that are no UTF-8, NUL
@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"run: {}\nballs:\n\tmnist: 1\n", 3, ["expected YAML, got what is none", r"'\t'"]),
        (b"run: {}\nballs: [\n", 3, ["expected YAML", "expected the node content"]),
        (b"run: {}\nballs: *all\n", 2, ["expected YAML", "undefined alias"]),
        (b"run: !!python/name:os 1\n", 1, ["expected YAML", "constructor for the tag"]),
        (b"run: {}\n---\nrun: {}\n", 2, ["expected YAML", "found another document"]),
        (b"run: {}\nreport: {confidence: 0.9}\nreport: {}\n", 3, ["expected YAML", 'found duplicate key "report"']),
        (b"run: {}\n<<<<<<< HEAD\nballs: {}\n", 2, ["expected no conflict of git, got '<<<<<<< HEAD'"]),
        (b"run: {}\nballs: {}\n=======\n", 3, ["expected no conflict of git, got '======='"]),
        (b"run: {}\nballs: {}\n\n>>>>>>> mine\n", 4, ["expected no conflict of git, got '>>>>>>> mine'"]),
        (b"run: {}  # caf\xe9\n", 1, ["expected UTF-8, got the byte 0xe9"]),
        ("run: {}\n".encode("utf-16"), 1, ["expected UTF-8, got the byte 0xff"]),
        (b"run: {}\n\nballs: \x00\n", 3, [r"expected text, got the character '\x00'"]),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text, line, words, tmp_path):
    (tmp_path / "params.yaml").write_bytes(text)
    message = error(tmp_path / "params.yaml")
    assert message.startswith(f"line {line}: ")
    for word in words:
        assert word in message


# fault: an empty params.yaml, a list, a scalar
@pytest.mark.parametrize(("text", "got"), [("", "nothing"), ("# 1\n", "nothing"), ("- 1\n", "[1]"), ("5\n", "5")])
def test_what_is_no_mapping_is_refused_with_the_keys_of_one(text, got, tmp_path):
    (tmp_path / "params.yaml").write_text(text)
    message = error(tmp_path / "params.yaml")
    assert message == f"expected a mapping with the keys {', '.join(CONTENT)}, got {got}"


@pytest.mark.parametrize("text", ["[" * 5000, "run: 2001-99-99\n", f"run: {'9' * 5000}\n"])
def test_what_yaml_cannot_hold_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "params.yaml").write_text(text)
    assert error(tmp_path / "params.yaml").startswith("cannot be read: ")


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xef\xbb\xbf" + FILE.read_bytes())
    assert load(tmp_path / "params.yaml") == load(FILE)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("    n_train: 60000 ", "    n_train: 70000 ", "datasets.mnist.n_train"),
        ("sizes: [[100, 5], [300, 5],", "sizes: [[100, 5], [300, five],", "datasets.mnist.sizes.1.1"),
        ("      large_eps: {l2: 4.7,", "      large_eps: {l2: 4.7, l3: 1.0,", "visualize.cifar10.large_eps"),
        ("  confidence: 0.95 ", "  certainty: 0.95 ", "report"),
        ("    margin: 0.001 ", "    margin: 0.1 ", "claims.mnist.margin"),
        (
            "  judges: {ball: l2-0.3137, seed: 1000}",
            "  judges: {ball: l2-0.3137, seed: 101}",
            "visualize.cifar10.judges",
        ),
    ],
)
def test_the_message_has_the_line_of_the_wrong_value(old, new, key, tmp_path):
    text = FILE.read_text()
    old, new = old.strip(), new.strip()
    line = text[: text.index(old)].count("\n") + 1
    (tmp_path / "params.yaml").write_text(text.replace(old, new, 1))
    message = error(tmp_path / "params.yaml")
    assert message.startswith(f"line {line if key != 'report' else line - 1}: ")
    assert key in message


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
        ({"restarts": [-0.1]}, r"Attack: expected restarts\.0: greater than or equal to 0, got -0\.1"),
        ({"n_steps": 1}, "Attack: expected n_steps: greater than or equal to 2, got 1"),
        ({"step_size": 0.1}, r"Attack: expected step_size: at least 0\.2, so that 10 steps add up .*, got 0\.1"),
        ({"eps": 0.3}, r"Attack: unknown key eps; remove it, or see help\(Attack\) for what is known"),
    ],
)
def test_a_wrong_value_in_python_is_refused_in_one_line(changes, message):
    with pytest.raises(ParamsError, match=f"^{message}$"):  # a dot is no line break
        Attack(**{**dict(Attack.standard()), **changes})
    with pytest.raises(ParamsError, match=r"^Attack: n_queries is missing$"):
        Attack(quick_steps=10, n_steps=30, step_size=2.0, first_radius=2.0, restarts=[])


def test_the_standard_attack_is_that_of_mnist():
    assert Attack.standard() == load(FILE).evaluate["mnist"].attack
