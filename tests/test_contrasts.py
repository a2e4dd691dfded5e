"""Differences of accuracy over seeds: which models are paired, against tables of the same models and numpy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robacc.paper import contrasts
from robacc.paper.contrasts import STANDARD, combine, difference, learned, of_eps, of_sizes, slope, table
from robacc.paper.intervals import crossed


def right(*accuracies, first=100, n=200, seed=0):
    """Return on which of `n` images models with these accuracies are right, by seed from `first` on."""
    rng = np.random.default_rng(seed)
    return {first + i: rng.permutation(n) < round(n * share) for i, share in enumerate(accuracies)}


def test_models_are_paired_by_the_seeds_that_both_have():
    ours, base = right(0.9, 0.8, 0.7), right(0.5, 0.75, first=101)
    found = difference(ours, base)
    assert found.shape == (2, 200)
    assert found.mean(1) == pytest.approx([0.8 - 0.5, 0.7 - 0.75])
    assert set(np.unique(found)) <= {-1.0, 0.0, 1.0}
    assert (found[0] == ours[101].astype(float) - base[101]).all()


def test_no_common_seed_is_no_row():
    nothing, one = difference(right(0.9), right(0.8, first=200)), difference(right(0.9), right(0.8))
    assert table([({"kind": "a"}, nothing), ({"kind": "b"}, one)], confidence=0.95).empty


def test_the_slope_is_that_of_the_least_squares_line_over_the_whole_grid():
    grid = {0.0: (0.99, 0.98), 0.5: (0.995, 0.97), 1.5: (0.95, 0.99), 2.5: (0.9, 0.91)}
    found = slope({eps: right(*shares, seed=round(10 * eps)) for eps, shares in grid.items()})
    for i, value in enumerate(found.mean(1)):
        line = stats.linregress(list(grid), [shares[i] for shares in grid.values()])
        assert value == pytest.approx(2.5 * line.slope)


def test_the_slope_of_two_eps_is_their_difference():
    first, second = right(0.9, 0.8), right(0.7, 0.75, seed=1)
    assert slope({0.0: first, 0.3: second}) == pytest.approx(difference(second, first))


def nets():
    return {
        STANDARD: right(0.95, 0.94, 0.93),
        ("l2", 0.5): right(0.96, 0.95, 0.94, seed=1),
        ("l2", 1.5): right(0.9, 0.91, 0.92, seed=2),
        ("linf", 0.3): right(0.85, 0.9, seed=3),
    }


def test_every_robust_net_is_compared_with_standard_training_at_every_size():
    found = table(of_sizes({100: nets(), 60000: nets()}, chance=0.1), confidence=0.95)
    assert (found.contrast == "robust").all()
    assert list(zip(found.n_train, found.norm, found.eps, strict=True)) == [
        (n, norm, eps) for n in (100, 60000) for norm, eps in (("l2", 0.5), ("l2", 1.5), ("linf", 0.3))
    ]
    assert found.value[:3].tolist() == pytest.approx([0.01, -0.03, -0.07])
    assert found.seeds[:3].tolist() == [3, 3, 2]


def test_steps_go_up_each_grid_and_the_slope_spans_it():
    found = table(of_eps(nets(), 60000, chance=0.1), confidence=0.95)
    assert found[["contrast", "norm", "eps_base", "eps"]].values.tolist() == [
        ["step", "l2", 0.0, 0.5],
        ["step", "l2", 0.5, 1.5],
        ["slope", "l2", 0.0, 1.5],
        ["step", "linf", 0.0, 0.3],
        ["slope", "linf", 0.0, 0.3],
    ]
    assert found.value[:2].tolist() == pytest.approx([0.01, -0.04])


def test_models_at_chance_are_named_where_they_are_read():
    collapsed = {**nets(), ("linf", 0.3): right(0.15, 0.8, 0.1), STANDARD: right(0.95, 0.94, 0.93, 0.1)}
    found = table([*of_sizes({60000: collapsed}, chance=0.11), *of_eps(collapsed, 60000, chance=0.11)], confidence=0.95)
    said = "the linf-0.3 models of seeds 100, 102 did not learn"  # 15 % of 200 images are not surely above 11 %
    assert found.unlearned[found.norm == "linf"].tolist() == [said] * 3
    assert set(found.unlearned[found.norm == "l2"]) == {""}  # no l2 model has the seed of the standard one at chance
    (row,) = [labels for labels, _ in of_sizes({100: {("l2", 0.5): right(0.1), STANDARD: right(0.1)}}, chance=0.11)]
    assert row["unlearned"] == "the l2-0.5 model of seed 100 and the standard model of seed 100 did not learn"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, False), (0.11, False), (0.119, False), (0.13, True), (1.0, True)]
)
def test_a_model_that_answers_one_class_has_not_learned(share, expected):
    assert learned(np.arange(10_000) < 10_000 * share, 0.1135) is expected


def test_a_row_has_all_three_intervals():
    matrix = difference(right(0.9, 0.8, 0.85), right(0.7, 0.75, 0.7, seed=1))
    (row,) = table([({"kind": "a"}, matrix)], confidence=0.95).to_dict("records")
    means = [0.2, 0.05, 0.15]
    for kind, level in (("", 0.95), ("_narrow", 0.9)):
        expected = stats.t.interval(level, 2, loc=np.mean(means), scale=stats.sem(means))
        assert (row[f"low{kind}"], row[f"high{kind}"]) == pytest.approx(expected)
    assert (row["low_both"], row["high_both"]) == crossed(matrix, confidence=0.95)
    assert (row["kind"], row["seeds"], row["n"]) == ("a", 3, 200)


def test_half_natural_batches_are_compared_with_all_adversarial_ones():
    pairs = [({"kind": "rob_acc"}, right(0.6, 0.5), right(0.7, 0.7, seed=1))]
    ((labels, matrix),) = contrasts.of_halves(pairs)
    assert labels == {"contrast": "half", "kind": "rob_acc"}
    assert matrix.mean() == pytest.approx(-0.15)


def test_weights_apply_to_each_image():
    first, second = {1: np.array([True, False])}, {1: np.array([True, True])}
    assert combine([(0.5, first), (2.0, second)]).tolist() == [[2.5, 2.0]]
    assert isinstance(table([], confidence=0.95), pd.DataFrame)
