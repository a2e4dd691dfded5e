"""Which models AutoAttack meets, in which balls and with which attacks."""

from pathlib import Path

import pytest

from robacc.balls import parse
from robacc.params import AutoAttack, Dataset, Natural, RestOfAutoAttack, Seeds
from stages import autoattack

REST = RestOfAutoAttack(attacks=["square"], balls=["standard", "l2-1.5", "linf-0.3"], n_seeds=1)
SETTINGS = AutoAttack(n_images=256, attacks=["apgd-ce"], rest=REST, standard_in=["l2-1.5", "linf-0.3"], seed=0)
NATURAL = Natural(fractions=[0.0, 0.5], balls=["l2-1.5"])
SEEDS = Seeds(first=7, n=2, deciding=["l2-1.5"], n_deciding=4, n_attacked=3)
DATASET = Dataset(recipe="none", n_train=100, sizes=[[10, 2]], seeds=SEEDS, sample_seed=0, natural=NATURAL)


@pytest.mark.parametrize(
    ("ball", "natural_fraction", "seed", "rest"),
    [
        ("l2-1.5", 0.0, 7, True),
        ("l2-1.5", 0.0, 8, False),  # another seed
        ("l2-1.5", 0.5, 7, False),  # half natural
        ("l2-0.5", 0.0, 7, False),  # another eps
        ("linf-1.5", 0.0, 7, False),  # that eps in the other norm
        ("standard", 0.0, 7, True),
        ("standard", 0.0, 9, False),
    ],
)
def test_the_rest_of_autoattack_is_for_the_models_it_names(ball, natural_fraction, seed, rest):
    expected = ["apgd-ce", "square"] if rest else ["apgd-ce"]
    assert autoattack.attacks_of(SETTINGS, parse(ball), natural_fraction, seed, range(7, 10)) == expected


@pytest.mark.parametrize(
    ("ball", "expected"),
    [
        ("standard", [(seed, 0.0, ball) for ball in ("l2-1.5", "linf-0.3") for seed in (7, 8)]),
        ("l2-1.5", [(seed, fraction, "l2-1.5") for fraction in (0.0, 0.5) for seed in (7, 8, 9)]),
        ("l2-0.5", [(seed, 0.0, "l2-0.5") for seed in (7, 8)]),
    ],
)
def test_a_robust_model_is_attacked_in_its_own_ball_and_a_standard_one_in_those_of_params(ball, expected):
    tasks = autoattack.tasks(parse(ball), Path("models"), DATASET, SETTINGS)
    found = [(task.seed, task.natural_fraction, str(task.ball)) for task in tasks if task.part == 0]
    assert found == expected
    assert len(tasks) == autoattack.N_PARTS * len(found)
    assert tasks[0].file == Path("models/seed7-natural0.0.safetensors")
