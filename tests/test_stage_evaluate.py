"""Which full-set models are attacked, on which eps, and which are only asked for their standard accuracy."""

from pathlib import Path

import pytest

from robacc.balls import parse
from robacc.params import Attack, Dataset, Evaluate, Natural, Seeds
from stages import evaluate

SEEDS = Seeds(first=7, n=2, deciding=["standard", "l2-1.5"], n_deciding=4, n_attacked=3)
NATURAL = Natural(fractions=[0.0, 0.5], balls=["l2-1.5"])
DATASET = Dataset(recipe="none", n_train=100, sizes=[[10, 2]], seeds=SEEDS, natural=NATURAL)
SETTINGS = Evaluate(n_images=20, eps={"l2": [0.5, 1.0], "linf": [0.1]}, attack=Attack.standard(), seed=0, n_checked=5)


@pytest.mark.parametrize(
    ("ball", "expected"),
    [
        (
            "standard",
            [(seed, 0.0, norm, grid) for norm, grid in (("l2", [0.5, 1.0]), ("linf", [0.1])) for seed in (7, 8, 9)]
            + [(10, 0.0, "l2", [])],
        ),
        (
            "l2-1.5",
            [(seed, 0.0, "l2", [0.5, 1.0, 1.5]) for seed in (7, 8, 9)]
            + [(seed, 0.5, "l2", [1.5]) for seed in (7, 8, 9)]
            + [(10, 0.0, "l2", [])],
        ),
        ("linf-0.1", [(seed, 0.0, "linf", [0.1]) for seed in (7, 8)]),
    ],
)
def test_the_first_seeds_are_attacked_and_the_others_have_standard_accuracy_alone(ball, expected):
    tasks = evaluate.tasks(parse(ball), Path("m"), DATASET, SETTINGS)
    assert [(task.seed, task.natural_fraction, task.norm, task.eps_grid) for task in tasks] == expected
    assert all(task.file == Path(f"m/seed{task.seed}-natural{task.natural_fraction}.safetensors") for task in tasks)


def test_transferred_attacks_come_from_another_attacked_seed_of_the_same_training():
    for task in evaluate.tasks(parse("l2-1.5"), Path("m"), DATASET, SETTINGS):
        following = {7: 8, 8: 9, 9: 7, 10: 10}[task.seed]
        assert task.other == Path(f"m/seed{following}-natural{task.natural_fraction}.safetensors")
