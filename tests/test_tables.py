"""Tidy tables: which rows, which counts, which means."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robacc.paper import tables

STANDARD = {"model": "mnist-standard", "norm_train": "standard", "eps_train": 0.0}
ROBUST = {"model": "mnist-l2-1.5", "norm_train": "l2", "eps_train": 1.5}


def row(model: dict, seed: int, norm: str, eps: float, n_correct: int, fraction: float = 0.0, n: int = 100) -> dict:
    images = "all" if n == 100 and norm == "none" else "sample"
    attack = {"images": images, "norm": norm, "eps": eps, "n": n, "n_correct": n_correct}
    return {"seed": seed, "natural_fraction": fraction, **attack, **model}


# The standard model is attacked in two norms, so its standard accuracy is written twice.
COUNTS = pd.DataFrame(
    [
        row(STANDARD, 0, "none", 0.0, 99),
        row(STANDARD, 0, "l2", 1.5, 10),
        row(STANDARD, 0, "none", 0.0, 99),
        row(STANDARD, 0, "linf", 0.1, 20),
        row(ROBUST, 0, "none", 0.0, 96),
        row(ROBUST, 0, "none", 0.0, 47, n=50),
        row(ROBUST, 0, "l2", 0.5, 90),
        row(ROBUST, 0, "l2", 1.5, 60),
        row(ROBUST, 1, "none", 0.0, 94),
        row(ROBUST, 1, "l2", 1.5, 70),
        row(ROBUST, 0, "none", 0.0, 98, 0.5),
        row(ROBUST, 0, "l2", 1.5, 30, 0.5),
    ]
)


@pytest.fixture
def accuracy() -> pd.DataFrame:
    return tables.accuracy(COUNTS, confidence=0.95)


def test_every_accuracy_has_its_wilson_interval(accuracy):
    for entry in accuracy.itertuples():
        interval = binomtest(entry.n_correct, entry.n).proportion_ci(confidence_level=0.95, method="wilson")
        assert (entry.low, entry.high) == pytest.approx((interval.low, interval.high))
        assert entry.accuracy == entry.n_correct / entry.n
        assert entry.low <= entry.accuracy <= entry.high


def test_a_measurement_is_one_row(accuracy):
    assert len(accuracy) == len(COUNTS) - 1
    assert list(accuracy.index) == list(range(len(accuracy)))
    keys = ["model", "seed", "natural_fraction", "norm_test", "eps_test", "images"]
    assert not accuracy.duplicated(keys).any()
    assert set(accuracy.norm_test) == {"none", "l2", "linf"}


def test_equal_counts_of_different_seeds_are_both_kept():
    counts = pd.DataFrame([row(ROBUST, seed, "none", 0.0, 95) for seed in (0, 1, 2)])
    assert tables.accuracy(counts, confidence=0.95).seed.tolist() == [0, 1, 2]


def test_standard_accuracy_is_without_attack_on_all_images_and_of_plain_training(accuracy):
    table = tables.standard(accuracy)
    assert table[["model", "seed", "n_correct"]].values.tolist() == [
        ["mnist-standard", 0, 99],
        ["mnist-l2-1.5", 0, 96],
        ["mnist-l2-1.5", 1, 94],
    ]


def test_sizes_are_the_sweep_and_the_full_set(accuracy):
    # trap 28: steps and epochs stand beside every accuracy
    budget = {"n": 100, "steps": 250, "epochs": 5.0, "subset_sha256": "ab"}
    sweep = pd.DataFrame(
        [
            {"n_train": 1000, "seed": 0, "n_correct": 91, **budget, **ROBUST},
            {"n_train": 100, "seed": 0, "n_correct": 70, **budget, **ROBUST},
            {"n_train": 100, "seed": 0, "n_correct": 72, **budget, **STANDARD},
        ]
    )
    curves = pd.DataFrame(
        [
            {"model": model["model"], "seed": seed, "natural_fraction": fraction, "step": step, "epoch": step / 10}
            for model, seed in [(STANDARD, 0), (ROBUST, 0), (ROBUST, 1)]
            for fraction, steps in [(0.0, (50, 900)), (0.5, (50, 7777))]
            for step in steps
        ]
    )
    table = tables.sizes(sweep, accuracy, curves, n_train=60000, confidence=0.95)
    columns = ["model", "n_train", "seed", "steps", "epochs", "n_correct"]
    assert table[columns].values.tolist() == [
        ["mnist-l2-1.5", 100, 0, 250, 5.0, 70],
        ["mnist-l2-1.5", 1000, 0, 250, 5.0, 91],
        ["mnist-l2-1.5", 60000, 0, 900, 90.0, 96],
        ["mnist-l2-1.5", 60000, 1, 900, 90.0, 94],
        ["mnist-standard", 100, 0, 250, 5.0, 72],
        ["mnist-standard", 60000, 0, 900, 90.0, 99],
    ]
    assert (table.low < table.accuracy).all()
    assert (table.accuracy < table.high).all()


def test_metrics_are_means_over_seeds_at_the_training_eps(accuracy):
    assert tables.metrics(accuracy) == {
        "mnist-standard": {"std_acc": 0.99},
        "mnist-l2-1.5": {"std_acc": 0.95, "rob_acc": 0.65},
    }


def test_interval_of_a_table_keeps_its_rows():
    counts = pd.DataFrame({"n_correct": [0, 5], "n": [5, 5], "seed": [3, 4]})
    table = tables.with_intervals(counts, confidence=0.9)
    assert table.accuracy.tolist() == [0.0, 1.0]
    assert (table.low[0], table.high[1]) == (0.0, 1.0)
    assert table.seed.tolist() == [3, 4]


def test_pairs_count_who_alone_is_right():
    ours, base = pd.Series([1, 1, 1, 0, 0, 1], dtype=bool), pd.Series([1, 0, 0, 1, 0, 1], dtype=bool)
    table = tables.paired(
        [({"seed": 0}, ours, base), ({"seed": 1}, base, ours), ({"seed": 2}, ours, ours)], confidence=0.95
    )
    assert table.n.tolist() == [6, 6, 6]
    assert table.only_ours.tolist() == [2, 1, 0]
    assert table.only_base.tolist() == [1, 2, 0]
    assert table.difference.tolist() == pytest.approx([1 / 6, -1 / 6, 0])
    assert table.p_value.tolist() == [1.0, 1.0, 1.0]
    assert (table.low <= table.difference).all()
    assert (table.difference <= table.high).all()
    assert table.low[0] == pytest.approx(-table.high[1])


def test_the_worst_case_is_taken_image_by_image():
    # the worst of the means would be 0.5, the mean of the worst is 0.25
    first = pd.DataFrame({"image": [3, 1, 2, 0], "fooled_by": ["none", "apgd-ce", "none", "misclassified"]})
    first["attacks"] = "apgd-ce square"
    pgd = pd.Series([False, True, False, True, True, True])  # of images 0 to 5; AutoAttack saw four
    table = tables.second_opinion(first, pgd, confidence=0.95).set_index("attack")
    assert table.n.tolist() == [4, 4, 4]
    assert table.n_correct.to_dict() == {"pgd": 2, "autoattack": 2, "worst": 1}
    assert table.accuracy["worst"] == 0.25
    assert (table.attacks == "apgd-ce square").all()
    assert (table.first_square == 0).all()
    assert (table["first_apgd-ce"] == 1).all()
    assert (table.low <= table.accuracy).all()


def test_outcomes_are_paired_by_the_index_of_the_image():
    # by position the two models would disagree on all four images
    ours = pd.Series([True, False, True, False], index=[40, 3, 17, 8])
    base = pd.Series([False, True, False, True], index=[8, 17, 3, 40])
    (row,) = tables.paired([({}, ours, base)], confidence=0.95).itertuples()
    assert (row.n, row.only_ours, row.only_base) == (4, 0, 0)
    base[40] = False
    (row,) = tables.paired([({}, ours, base)], confidence=0.95).itertuples()
    assert (row.n, row.only_ours, row.only_base) == (4, 1, 0)


def test_the_second_opinion_is_on_the_same_images_by_index():
    # PGD attacked images 90, 7 and 51 in this order, AutoAttack 51 and 90
    pgd = pd.Series([True, False, False], index=[90, 7, 51])
    first = pd.DataFrame({"image": [51, 90], "fooled_by": ["apgd-ce", "none"], "attacks": "apgd-ce"})
    table = tables.second_opinion(first, pgd, confidence=0.95).set_index("attack")
    assert table.n_correct.to_dict() == {"pgd": 1, "autoattack": 1, "worst": 1}


def test_outcomes_of_other_images_are_refused():
    ours, base = pd.Series([True, True], index=[3, 9]), pd.Series([True, True], index=[3, 8])
    message = "got none of 1 of 2, such as image 9; attack all models on the same sample"
    with pytest.raises(ValueError, match=message):
        tables.paired([({}, ours, base)], confidence=0.95)
    first = pd.DataFrame({"image": [3, 9], "fooled_by": "none", "attacks": "apgd-ce"})
    with pytest.raises(ValueError, match=message):
        tables.second_opinion(first, base, confidence=0.95)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_radius_is_half_way_between_the_last_eps_that_holds_and_the_first_that_fools(dtype):
    fooling = np.array([0.0, 0.1, 0.3, np.inf, np.inf], dtype=dtype)
    radii = [0.0, 0.05, 0.2, 0.3, 0.3]
    found = tables.radius(fooling, [0.1, 0.3])
    expected = {"mean": np.mean(radii), "standard_error": np.std(radii, ddof=1) / 5**0.5, "n": 5}
    assert found == pytest.approx(expected)


def test_the_radius_of_a_fine_grid_is_the_mean_distance():
    distances = np.random.default_rng(0).uniform(0, 0.4, 500)
    grid = np.linspace(0.001, 0.5, 500)
    fooling = grid[np.searchsorted(grid, distances)]
    assert tables.radius(fooling, grid.tolist())["mean"] == pytest.approx(distances.mean(), abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_worst_case_is_the_smallest_eps_at_which_anything_fools(dtype):
    fooling = pd.Series(np.array([0.0, 0.1, np.inf, 0.3, np.inf], dtype=dtype), index=[9, 7, 5, 3, 1])
    rows = [(9, 0.3, "misclassified"), (7, 0.3, "square"), (5, 0.3, "apgd-ce"), (3, 0.1, "apgd-t"), (1, 0.3, "none")]
    first = pd.DataFrame(rows, columns=["image", "eps", "fooled_by"])
    found = tables.worst_case(fooling, first)
    assert found.tolist() == pytest.approx([0.0, 0.1, 0.3, 0.1, np.inf])
    assert [int((found > eps).sum()) for eps in (0.1, 0.3)] == [2, 1]
    assert fooling[5] == np.inf  # unchanged
    pd.testing.assert_series_equal(tables.worst_case(fooling, first[:0]), fooling)
