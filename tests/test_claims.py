"""Every claim can come out either way: tables made so that its rule holds, then with one thing wrong."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from robacc.paper import claims, claims_exact
from robacc.paper.ledger import NOT_REPRODUCED, NOT_TESTED, REPRODUCED, difference, mean_over_seeds

MNIST = {"dataset": "mnist", "confidence": 0.95}
BALLS = [("standard", 0.0), ("l2", 0.5), ("l2", 1.5), ("linf", 0.1), ("linf", 0.3)]


def rows(value, **columns):
    """Return three seeds of every ball, with accuracies `value(norm, eps)` and a little noise shared by a seed."""
    return pd.DataFrame(
        [
            {"model": f"{norm}-{eps}", "norm_train": norm, "eps_train": eps, "seed": seed, "n": 1000, **columns}
            | {"accuracy": value(norm, eps) + 0.01 * seed + 0.0005 * ((seed * 7 + round(10 * eps)) % 3)}
            for norm, eps in BALLS
            for seed in range(3)
        ]
    )


def sizes(small, full):
    middle = rows(lambda norm, eps: 0.9 + (small + full) * eps / 20, n_train=1000)
    return pd.concat(
        [
            rows(lambda norm, eps: 0.7 + small * (eps > 0), n_train=100),
            middle,
            rows(lambda norm, eps: 0.95 + full * (eps > 0), n_train=60000),
        ]
    )


@pytest.mark.parametrize(("gain", "verdict"), [(0.05, REPRODUCED), (0.0, NOT_REPRODUCED), (-0.05, NOT_REPRODUCED)])
def test_c1_needs_a_gain_on_the_smallest_set(gain, verdict):
    claim = claims.small_sets(sizes(gain, -0.02), **MNIST)
    assert claim.verdict == verdict
    assert [measure.value for measure in claim.measures[:2]] == pytest.approx([gain, gain], abs=0.001)
    assert all("100 images" in measure.name for measure in claim.measures[:2])


def test_c1_may_show_at_the_second_size_but_needs_both_norms():
    table = sizes(0.0, -0.02)
    table.loc[(table.eps_train > 0) & (table.n_train == 1000), "accuracy"] += 0.05
    assert claims.small_sets(table, **MNIST).verdict == REPRODUCED
    table.loc[table.norm_train == "linf", "accuracy"] -= 0.1
    assert claims.small_sets(table, **MNIST).verdict == NOT_REPRODUCED


@pytest.mark.parametrize(("loss", "verdict"), [(-0.02, REPRODUCED), (0.0, NOT_REPRODUCED), (0.02, NOT_REPRODUCED)])
def test_c2_needs_a_loss_on_the_full_set(loss, verdict):
    assert claims.full_set(sizes(0.05, loss), **MNIST).verdict == verdict


def test_c2_is_decided_by_both_norms():
    table = sizes(0.05, -0.02)
    table.loc[(table.norm_train == "linf") & (table.n_train == 60000), "accuracy"] += 0.05
    assert claims.full_set(table, **MNIST).verdict == NOT_REPRODUCED


@pytest.mark.parametrize("gaps", [(0.1, -0.1), (0.3, -0.1), (0.02, -0.3), (0.1, 0.1), (-0.1, -0.1), (-0.1, 0.1)])
def test_the_crossing_is_where_the_line_between_two_sizes_falls_below_zero(gaps):
    table = pd.DataFrame(
        [
            {"norm_train": norm, "eps_train": eps, "n_train": n, "accuracy": 0.5 + gap * (eps > 0)}
            for n, gap in zip((100, 10000), gaps, strict=True)
            for norm, eps in (("standard", 0.0), ("l2", 1.5))
        ]
    )
    falls = gaps[0] > 0 > gaps[1]
    expected = pytest.approx(100 * 100 ** (gaps[0] / (gaps[0] - gaps[1]))) if falls else None
    assert claims.crossing(table, "l2", 1.5) == expected


def accuracy(value, half=(0.01, -0.03)):
    plain = rows(value, norm_test="none", eps_test=0.0, natural_fraction=0.0)
    own = plain.assign(norm_test=plain.norm_train, eps_test=plain.eps_train, accuracy=plain.accuracy - 0.2)
    tables = [plain, own[own.eps_train > 0]]
    for table, change in zip(list(tables), half, strict=True):
        mixed = table[table.eps_train > 0]
        tables.append(mixed.assign(natural_fraction=0.5, accuracy=mixed.accuracy + change * (1 + 0.05 * mixed.seed)))
    return pd.concat(tables, ignore_index=True)


def test_c3_needs_a_decline():
    assert claims.decline_with_eps(accuracy(lambda _, eps: 0.99 - 0.05 * eps), confidence=0.95).verdict == REPRODUCED
    assert claims.decline_with_eps(accuracy(lambda *_: 0.99), confidence=0.95).verdict == NOT_REPRODUCED


def test_c3_fails_when_one_step_rises():
    table = accuracy(lambda norm, eps: {("l2", 0.5): 0.95, ("l2", 1.5): 0.96}.get((norm, eps), 0.99 - 0.1 * eps))
    assert claims.decline_with_eps(table, confidence=0.95).verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("half", "verdict"),
    [((0.01, -0.03), REPRODUCED), ((-0.01, -0.03), NOT_REPRODUCED), ((0.01, 0.03), NOT_REPRODUCED)],
)
def test_c4_needs_both_sides_of_the_trade(half, verdict):
    table = accuracy(lambda _, eps: 0.99 - 0.05 * eps, half)
    assert claims.half_and_half(table, **MNIST).verdict == verdict


def test_c4_is_not_tested_without_mixed_models():
    table = accuracy(lambda _, eps: 0.99 - 0.05 * eps)
    assert claims.half_and_half(table[table.natural_fraction == 0], **MNIST).verdict == NOT_TESTED


@pytest.mark.parametrize(
    ("standard", "robust", "verdict"),
    [(0.2, 0.0, REPRODUCED), (0.05, 0.0, NOT_REPRODUCED), (0.2, 0.05, NOT_REPRODUCED)],
)
def test_c9_needs_weight_in_one_model_and_none_in_the_other(standard, robust, verdict):
    table = pd.DataFrame({"optimizer": "sgd", "l2": 0.0, "eps_train": [0.0, 0.2], "share": [standard, robust]})
    table = table.assign(threshold=0.1, n_features=400)
    assert claims_exact.weak_pixels(table, threshold=0.1).verdict == verdict


@pytest.mark.parametrize(("last", "verdict"), [(0.1, REPRODUCED), (0.79, NOT_REPRODUCED)])
def test_c10_needs_robust_accuracy_to_fall(last, verdict):
    kept = [1, 10, 100, 784]
    table = pd.DataFrame({"n_kept": kept * 2, "attack": ["none"] * 4 + ["linf"] * 4, "eps_test": [0.0] * 4 + [0.2] * 4})
    values = np.array([*np.linspace(0.8, 0.99, 4), *np.linspace(0.8, last, 4)])
    table = table.assign(accuracy=values, low=values - 0.02, high=values + 0.02, n=1900, optimizer="sgd", l2=0.0)
    assert claims_exact.few_pixels(table).verdict == verdict


def theory_tables(excess=-0.1, z=1.0):
    points = pd.DataFrame({"adversary": ["closed form", "attack: shifts"], "excess": [-0.1, excess], "seed": 0})
    points = points.assign(excess_se=[0.0, 0.01], n_test=2000)
    frontier = pd.DataFrame({"rob_acc": [0.3, 0.5], "bound": [0.3, 0.6]})
    return points, frontier, pd.DataFrame({"z": [0.0, z]})


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, REPRODUCED),
        ({"excess": 0.03}, REPRODUCED),
        ({"excess": 0.05}, NOT_REPRODUCED),
        ({"z": -4.5}, NOT_REPRODUCED),
    ],
)
def test_c5_fails_above_the_bound(change, verdict):
    assert claims_exact.no_free_lunch(*theory_tables(**change), confidence=0.95).verdict == verdict


def test_c5_fails_for_a_linear_classifier_above_the_bound():
    points, frontier, checks = theory_tables()
    frontier.loc[1, "rob_acc"] = 0.61
    assert claims_exact.no_free_lunch(points, frontier, checks, confidence=0.95).verdict == NOT_REPRODUCED


@pytest.mark.parametrize(("robust", "verdict"), [(0.9, REPRODUCED), (0.89, NOT_REPRODUCED)])
def test_c6_is_exact(robust, verdict):
    table = pd.DataFrame(
        {"classifier": ["sign(x1)", "mean"], "p": 0.9, "std_acc": [0.9, 0.99], "rob_acc": [robust, 0.0]}
    )
    assert claims_exact.tight(table).verdict == verdict


@pytest.mark.parametrize(("standard", "verdict"), [(0.995, REPRODUCED), (0.98, NOT_REPRODUCED)])
def test_c7_counts_only_settings_that_fulfil_the_hypotheses(standard, verdict):
    table = pd.DataFrame(
        {
            "violated": ["", "", "p <= 0.975"],
            "eps_train": [0.0, 0.4, 0.0],
            "eta": 0.2,
            "p": 0.9,
            "std_acc": [standard, 0.9, 0.1],
            "rob_acc": [0.001, 0.9, 0.9],
        }
    )
    assert claims_exact.opposite_optima(table).verdict == verdict


@pytest.mark.parametrize(("victim", "verdict"), [(0.001, REPRODUCED), (0.2, NOT_REPRODUCED)])
def test_c8_looks_at_victims_of_perturbations_made_without_them(victim, verdict):
    table = pd.DataFrame({"seed": [0, 1, 2], "victim": "SVM", "adv_acc": [victim, victim * 1.01, victim * 0.99]})
    table = table.assign(source="distribution", eps_train=0.0, strength=4.0, n_test=2000)
    assert claims_exact.transfers(table, confidence=0.95).verdict == verdict


def test_the_interval_over_seeds_is_students():
    values = [0.1, 0.2, 0.4, 0.3]
    measure = mean_over_seeds("x", values, n=5, confidence=0.9)
    low, high = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (measure.low, measure.value, measure.high) == pytest.approx((low, 0.25, high))
    assert (measure.n, measure.seeds) == (5, 4)


def test_one_seed_decides_nothing():
    measure = mean_over_seeds("x", [0.4], n=5, confidence=0.95)
    assert (measure.low, measure.high) == (-1.0, 1.0)


def test_one_seed_or_no_robust_model_is_not_tested():
    table = sizes(0.05, -0.02)
    assert claims.small_sets(table[table.seed == 0], **MNIST).verdict == NOT_TESTED
    standard = table[table.norm_train == "standard"]
    assert claims.small_sets(standard, **MNIST).verdict == NOT_TESTED
    assert claims.full_set(standard, **MNIST).verdict == NOT_TESTED


def test_differences_are_paired_by_seed():
    ours = pd.DataFrame({"seed": [2, 0, 1], "accuracy": [0.52, 0.3, 0.41], "n": 10})
    base = pd.DataFrame({"seed": [0, 1, 2], "accuracy": [0.2, 0.3, 0.4], "n": 10})
    measure = difference("x", ours, base, confidence=0.95)
    assert (measure.value, measure.n, measure.is_difference) == (pytest.approx(0.11), 10, True)
    with pytest.raises(ValueError, match="one row a seed"):
        difference("x", pd.concat([ours, ours]), base, confidence=0.95)


def test_the_deciding_eps_is_the_papers_or_the_nearest():
    assert claims.paper_eps(rows(lambda *_: 0.5), "l2", "mnist") == 1.5
    assert claims.paper_eps(pd.DataFrame({"norm_train": "linf", "eps_train": [0.1, 0.25]}), "linf", "mnist") == 0.25
    grid = pd.DataFrame({"norm_train": "linf", "eps_train": [0.0039, 0.0078, 0.0157, 0.0314]})
    assert claims.paper_eps(grid, "linf", "cifar10") == 0.0157
    assert claims.paper_eps(grid, "linf", "restricted_imagenet_64") == 0.0039


def test_c1_says_where_its_rule_comes_from():
    table = sizes(0.05, -0.02)
    assert "three seeds" in claims.small_sets(table, **MNIST).remark
    assert "most clearly of MNIST" in claims.small_sets(table, dataset="cifar10", confidence=0.95).remark
