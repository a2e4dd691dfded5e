"""Every claim can come out with each word: contrasts made so that its rule holds, then with one thing wrong."""

import numpy as np
import pandas as pd
import pytest

from robacc.paper import claims, claims_exact
from robacc.paper.ledger import EQUAL, NOT_TESTED, OPPOSITE, REPRODUCED, UNDECIDED, difference
from robacc.paper.published import Gains

MNIST = {"dataset": "mnist", "confidence": 0.95}
BALLS = [("standard", 0.0), ("l2", 0.5), ("l2", 1.5), ("linf", 0.1), ("linf", 0.3)]
AT = [("l2", 0.5), ("l2", 1.5), ("linf", 0.3)]


def contrast(kind, norm, eps, value, *, half=0.005, n_train=60000, eps_base=0.0, accuracy="std_acc"):
    """Return a row of contrasts.csv with half-widths `half` and 0.8 `half`, and a wider one for random images."""
    labels = {"contrast": kind, "kind": accuracy, "n_train": n_train, "norm": norm, "eps_base": eps_base, "eps": eps}
    labels["unlearned"] = ""
    limits = {"": half, "_narrow": 0.8 * half, "_both": 1.5 * half}
    spread = {f"{end}{of}": value + sign * by for of, by in limits.items() for end, sign in (("low", -1), ("high", 1))}
    return {**labels, "seeds": 5, "n": 1000, "value": value, **spread}


def verdicts(claim):
    """Return the words of a claim by norm and place."""
    return {(reading.norm, reading.place): reading.verdict for reading in claim.readings}


WORDS = [(0.05, REPRODUCED), (-0.05, OPPOSITE), (0.0002, EQUAL), (0.004, UNDECIDED)]


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


def gains(small, full, half=0.005):
    """Return the contrasts with standard training: gains on the two smallest sets, on a larger and on the full one."""
    by_size = {100: small, 300: small, 1000: 0.9, 60000: full}
    return pd.DataFrame(
        [
            contrast("robust", norm, eps, value, half=half, n_train=n)
            for norm, eps in BALLS
            if eps
            for n, value in by_size.items()
        ]
    )


@pytest.mark.parametrize(("gain", "verdict"), WORDS)
def test_c1_is_read_on_the_two_smallest_sets_in_each_norm(gain, verdict):
    half = 0.0005 if verdict == EQUAL else 0.005
    claim = claims.small_sets(gains(gain, -0.02, half), dataset="mnist", margin=0.001)
    places = [(norm, f"on {n} images") for norm in ("l2", "linf") for n in (100, 300)]
    assert verdicts(claim) == dict.fromkeys(places, verdict)
    assert [measure.value for measure in claim.measures] == [gain] * 4
    assert [measure.name for measure in claim.measures][:2] == [
        "standard accuracy, l2 eps 1.5 minus standard training, 100 images",
        "standard accuracy, l2 eps 1.5 minus standard training, 300 images",
    ]


def test_a_claim_says_each_norm_and_place():
    table = gains(0.05, -0.02)
    table.loc[(table.norm == "l2") & (table.n_train == 100), ["low", "low_narrow", "low_both"]] = -0.1
    claim = claims.small_sets(table, dataset="mnist", margin=0.001)
    assert claim.verdict == (
        "l2: undecided on 100 images, reproduced on 300 images; linf: reproduced on 100 images and on 300 images"
    )


def test_the_full_set_is_never_a_small_one():
    table = gains(0.05, -0.02)
    claim = claims.small_sets(table[table.n_train.isin([100, 60000])], dataset="mnist", margin=0.001)
    assert {place for _, place in verdicts(claim)} == {"on 100 images"}


SIZES = rows(lambda *_: 0.9, n_train=100)


@pytest.mark.parametrize(("loss", "verdict"), [(-value, verdict) for value, verdict in WORDS])
def test_c2_is_read_on_the_full_set_at_the_balls_of_params(loss, verdict):
    half = 0.0005 if verdict == EQUAL else 0.005
    claim = claims.full_set(gains(0.05, loss, half), SIZES, balls=AT, margin=0.001, published=Gains(["a"]))
    assert verdicts(claim) == {("l2", "at 0.5"): verdict, ("l2", "at 1.5"): verdict, ("linf", "at 0.3"): verdict}
    assert claim.verdict == f"l2: {verdict} at 0.5 and at 1.5; linf: {verdict}"
    assert claim.published == ["a"]
    assert claim.measures[0].both == pytest.approx((loss - 1.5 * half, loss + 1.5 * half))


def test_a_claim_names_a_model_that_did_not_learn_and_keeps_its_verdict():
    table, said = gains(0.05, -0.05), "the linf-0.3 models of seeds 101, 103 did not learn"
    table.loc[(table.norm == "linf") & (table.n_train == 60000) & (table.eps == 0.3), "unlearned"] = said
    claim = claims.full_set(
        table, rows(lambda norm, eps: 0.9, n_train=60000), balls=AT, margin=0.001, published=Gains()
    )
    assert claim.verdict == f"l2: reproduced at 0.5 and at 1.5; linf: reproduced, where {said}"
    assert claim.words == {"l2": "reproduced", "linf": f"reproduced, where {said}"}
    assert [effect.verdict for effect in claim.effects] == [REPRODUCED] * 3
    table.loc[(table.norm == "l2") & (table.n_train == 60000) & (table.eps == 1.5), "unlearned"] = "no model learned"
    claim = claims.full_set(
        table, rows(lambda norm, eps: 0.9, n_train=60000), balls=AT, margin=0.001, published=Gains()
    )
    assert claim.verdict.startswith("l2: reproduced at 0.5, reproduced at 1.5, where no model learned; linf")


def test_c2_reads_norms_apart():
    table = gains(0.05, -0.02)
    table.loc[(table.norm == "linf"), ["low", "high", "low_narrow", "high_narrow"]] += 0.05
    claim = claims.full_set(table, SIZES, balls=AT, margin=0.001, published=Gains())
    assert claim.verdict == "l2: reproduced at 0.5 and at 1.5; linf: opposite"


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


def over_eps(slope, total, first=0.0, half=0.005):
    """Return the contrasts of C3 in both norms: slope, total, and the two steps."""
    found = []
    for norm, small, large in (("l2", 0.5, 1.5), ("linf", 0.1, 0.3)):
        found += [
            contrast("slope", norm, large, slope, half=half),
            contrast("robust", norm, small, first, half=half),
            contrast("robust", norm, large, total, half=half),
            contrast("robust", norm, large, 0.5, half=half, n_train=100),
            contrast("step", norm, small, first, half=half),
            contrast("step", norm, large, total - first, half=half, eps_base=small),
        ]
    return pd.DataFrame(found)


@pytest.mark.parametrize(("change", "verdict"), [(-value, verdict) for value, verdict in WORDS])
@pytest.mark.parametrize("moved", ["slope", "total"])
def test_c3_is_a_trend_and_a_total(moved, change, verdict):
    half = 0.0005 if verdict == EQUAL else 0.005
    claim = claims.decline_with_eps(
        over_eps(**{"slope": -0.05, "total": -0.05, moved: change}, half=half), margin=0.001, published=Gains()
    )
    places = {"slope": "as a trend", "total": "in total"}
    assert verdicts(claim) == {
        (norm, place): verdict if part == moved else REPRODUCED
        for norm in ("l2", "linf")
        for part, place in places.items()
    }
    assert len(claim.measures) == 2 * 4


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (0.02, "to l2 eps 0.5 standard accuracy rises;"),
        (-0.02, "to l2 eps 0.5 standard accuracy falls;"),
        (0.002, "to linf eps 0.1 standard accuracy may rise or fall."),
    ],
)
def test_c3_says_what_happens_at_small_eps_and_is_not_decided_by_it(first, said):
    claim = claims.decline_with_eps(over_eps(-0.05, -0.05, first), margin=0.001, published=Gains())
    assert said in claim.remark
    assert set(verdicts(claim).values()) == {REPRODUCED}


@pytest.mark.parametrize(("std", "std_word"), WORDS[:2])
@pytest.mark.parametrize(("rob", "rob_word"), [(-0.03, REPRODUCED), (0.03, OPPOSITE), (0.001, UNDECIDED)])
def test_c4_reads_both_sides_of_the_trade(std, std_word, rob, rob_word):
    table = pd.DataFrame(
        [
            contrast("half", norm, eps, value, accuracy=kind)
            for norm, eps in (("l2", 1.5), ("linf", 0.3), ("linf", 0.1))
            for kind, value in (("std_acc", std), ("rob_acc", rob))
        ]
    )
    claim = claims.half_and_half(table, balls=AT, margin=0.001, published=[])
    at = [("l2", 1.5), ("linf", 0.3)]
    expected = {(norm, f"in standard accuracy at eps {eps}"): std_word for norm, eps in at}
    expected |= {(norm, f"in robust accuracy at eps {eps}"): rob_word for norm, eps in at}
    assert verdicts(claim) == expected


def test_a_claim_without_models_is_not_tested():
    table = gains(0.05, -0.02)
    assert claims.half_and_half(table, balls=AT, margin=0.001, published=[]).verdict == NOT_TESTED
    nothing = table[table.norm == "none"]
    assert claims.small_sets(nothing, dataset="mnist", margin=0.001).verdict == NOT_TESTED
    assert claims.decline_with_eps(nothing, margin=0.001, published=Gains()).verdict == NOT_TESTED


@pytest.mark.parametrize(
    ("standard", "robust", "verdict"),
    [(0.2, 0.0, REPRODUCED), (0.05, 0.0, OPPOSITE), (0.2, 0.05, OPPOSITE)],
)
def test_c9_needs_weight_in_one_model_and_none_in_the_other(standard, robust, verdict):
    table = pd.DataFrame({"optimizer": "sgd", "l2": 0.0, "eps_train": [0.0, 0.2], "share": [standard, robust]})
    table = table.assign(threshold=0.1, n_features=400)
    assert claims_exact.weak_pixels(table, threshold=0.1).verdict == verdict


@pytest.mark.parametrize(
    ("first", "last", "verdict"),
    [
        (0.8, 0.1, REPRODUCED),
        (0.8, 0.79, UNDECIDED),
        (0.8, 0.9, OPPOSITE),
        (0.51, 0.1, UNDECIDED),
        (0.4, 0.1, OPPOSITE),
    ],
)
def test_c10_needs_robust_accuracy_to_fall(first, last, verdict):
    kept = [1, 10, 100, 784]
    table = pd.DataFrame({"n_kept": kept * 2, "attack": ["none"] * 4 + ["linf"] * 4, "eps_test": [0.0] * 4 + [0.2] * 4})
    values = np.array([*np.linspace(0.8, 0.99, 4), *np.linspace(first, last, 4)])
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
        ({"excess": 0.05}, OPPOSITE),
        ({"z": -4.5}, OPPOSITE),
    ],
)
def test_c5_fails_above_the_bound(change, verdict):
    assert claims_exact.no_free_lunch(*theory_tables(**change), confidence=0.95).verdict == verdict


def test_c5_fails_for_a_linear_classifier_above_the_bound():
    points, frontier, checks = theory_tables()
    frontier.loc[1, "rob_acc"] = 0.61
    assert claims_exact.no_free_lunch(points, frontier, checks, confidence=0.95).verdict == OPPOSITE


@pytest.mark.parametrize(("robust", "verdict"), [(0.9, REPRODUCED), (0.89, OPPOSITE)])
def test_c6_is_exact(robust, verdict):
    table = pd.DataFrame(
        {"classifier": ["sign(x1)", "mean"], "p": 0.9, "std_acc": [0.9, 0.99], "rob_acc": [robust, 0.0]}
    )
    assert claims_exact.tight(table).verdict == verdict


@pytest.mark.parametrize(("standard", "verdict"), [(0.995, REPRODUCED), (0.98, OPPOSITE)])
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


@pytest.mark.parametrize(("victim", "verdict"), [(0.001, REPRODUCED), (0.2, OPPOSITE), (0.0099, UNDECIDED)])
def test_c8_looks_at_victims_of_perturbations_made_without_them(victim, verdict):
    table = pd.DataFrame({"seed": [0, 1, 2], "victim": "SVM", "adv_acc": [victim, victim * 1.01, victim * 0.99]})
    table = table.assign(source="distribution", eps_train=0.0, strength=4.0, n_test=2000)
    assert claims_exact.transfers(table, confidence=0.95).verdict == verdict


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
