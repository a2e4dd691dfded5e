"""Claims C11 to C13 can come out each way: tables made so that every part holds, then with one thing wrong."""

import pandas as pd
import pytest
from scipy import stats

from robacc.paper import claims_pictures as claims
from robacc.paper.claims_pictures import Part, together, word

MNIST = {"dataset": "mnist", "confidence": 0.95}
CIFAR = {"dataset": "cifar10", "confidence": 0.95}
BALLS = [("standard", 0.0), ("l2", 0.5), ("l2", 1.5), ("linf", 0.1), ("linf", 0.3)]
SEEDS = (0, 1, 2, 3)


def rows(quantity, value, norm="none", position=0.0):
    """Return four seeds of every ball with the means `value(norm, eps)`, a little noise by seed, and n = 100."""
    return pd.DataFrame(
        [
            {"quantity": quantity, "norm": norm, "position": position, "norm_train": trained, "eps_train": eps}
            | {
                "seed": seed,
                "n": 100 + seed,
                "learned": True,
                "mean": value(trained, eps) + 0.001 * ((seed * 7 + round(10 * eps)) % 3),
            }
            for trained, eps in BALLS
            for seed in SEEDS
        ]
    )


def words(claim):
    return dict(part.split(": ") for part in claim.verdict.split("; "))


def gradients(*, share=0.3, l2=1.0, linf=0.1, of="object_share", only=None):
    """Return a table in which robust training adds `share`, and to the alignments the others, only in norm `only`."""

    def gain(size):
        return lambda norm, eps: 0.4 + size * (eps > 0 and only in (None, norm))

    return pd.concat(
        [rows(of, gain(share)), rows("alignment", gain(l2), "l2"), rows("alignment", gain(linf), "linf")],
        ignore_index=True,
    )


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "reproduced"),
        ({"share": -0.3}, "opposite"),
        ({"l2": -1.0, "linf": -0.1}, "opposite"),
        ({"share": 0.0}, "undecided"),
        ({"share": 0.0, "l2": 0.0, "linf": 0.0}, "equal"),
        ({"share": -0.3, "l2": -1.0, "linf": -0.1}, "opposite"),
    ],
)
def test_c11_needs_both_measures(change, verdict):
    assert words(claims.gradients_align(gradients(**change), **MNIST)) == {"l2": verdict, "linf": verdict}


def test_a_claim_names_a_model_that_did_not_learn_and_keeps_its_verdict():
    table = gradients()
    table.loc[(table.norm_train == "linf") & table.seed.isin([1, 3]) & (table.eps_train == 0.3), "learned"] = False
    said = "reproduced, where the linf-0.3 models of seeds 1, 3 did not learn"
    claim = claims.gradients_align(table, **MNIST)
    assert claim.words == {"l2": "reproduced", "linf": said}
    assert {(effect.norm, effect.verdict) for effect in claim.effects} == {("l2", "reproduced"), ("linf", "reproduced")}
    table.loc[table.norm_train == "standard", "learned"] = False
    of_standard = "the standard models of seeds 0, 1, 2, 3 did not learn"
    assert claims.gradients_align(table, **MNIST).words["l2"] == f"reproduced, where {of_standard}"


def test_c11_is_read_in_each_norm_by_itself_at_the_papers_eps():
    claim = claims.gradients_align(gradients(only="l2"), **MNIST)
    assert words(claim) == {"l2": "reproduced", "linf": "equal"}
    table = gradients()
    table.loc[table.eps_train.isin([0.5, 0.1]), "mean"] = 0.0  # other eps decide nothing
    assert words(claims.gradients_align(table, **MNIST)) == {"l2": "reproduced", "linf": "reproduced"}


def test_c11_takes_the_alignment_in_the_norm_of_training_in_units_of_eps():
    claim = claims.gradients_align(gradients(share=0.2, l2=1.2, linf=-0.12), **MNIST)
    assert words(claim) == {"l2": "reproduced", "linf": "opposite"}
    assert [measure.value for measure in claim.measures] == pytest.approx([0.2, 1.2 / 1.5, 0.2, -0.4], abs=0.01)
    assert all(measure.is_difference for measure in claim.measures)
    assert {measure.seeds for measure in claim.measures} == {4}
    assert {measure.n for measure in claim.measures} == {100}


def test_c11_of_colour_images_is_about_the_span_and_not_the_object():
    table = pd.concat([gradients(share=-0.3), gradients(of="span_share").query("norm == 'none'")])
    assert set(words(claims.gradients_align(table, **MNIST)).values()) == {"opposite"}
    claim = claims.gradients_align(table, **CIFAR)
    assert set(words(claim).values()) == {"reproduced"}
    assert not any("object" in text for text in (claim.rule, *(measure.name for measure in claim.measures)))


def judged(*, robust=0.9, standard_judge=0.8, base=0.2, changed=1.0, nearest=0.3):
    """Return a table of what judges say, in which standard training's share by the robust judge is `base`."""
    table = [
        rows("changed", lambda *_: changed, "l2"),
        rows("judged_robust", lambda _, eps: robust if eps else base, "l2"),
        rows("judged_standard", lambda *_: standard_judge, "l2"),
        rows("judged_nearest", lambda *_: nearest, "l2"),
    ]
    linf = [part.assign(norm="linf", mean=0.0) for part in table]  # examples in linf balls decide nothing
    return pd.concat(table + linf, ignore_index=True)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "reproduced"),
        ({"robust": 0.4}, "opposite"),
        ({"standard_judge": 0.4}, "opposite"),
        ({"base": 0.95}, "opposite"),
        ({"base": 0.9}, "undecided"),
        ({"nearest": 0.0}, "reproduced"),
        ({"changed": 0.1}, "reproduced"),
    ],
)
def test_c12_needs_more_than_half_by_both_judges_and_more_than_standard_training(change, verdict):
    claim = claims.looks_like_another_class(judged(**change), **MNIST)
    assert words(claim) == {"l2": verdict, "linf": verdict}
    assert "Schott" in claim.remark


def test_c12_states_the_share_that_changes_and_the_nearest_images_opinion():
    claim = claims.looks_like_another_class(judged(changed=0.7, nearest=0.3), **CIFAR)
    found = {measure.name.rsplit(",", 1)[0]: measure.value for measure in claim.measures}
    assert found["share of examples that change class"] == pytest.approx(0.7, abs=0.01)
    assert found["share whose nearest training image has the new class"] == pytest.approx(0.3, abs=0.01)
    assert not claim.remark


def path(curve):
    return pd.concat(
        [rows("path_robust", lambda *_, v=value: v, "l2", i / (len(curve) - 1)) for i, value in enumerate(curve)]
    )


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        ((0.0, 0.2, 0.5, 0.8), "reproduced"),
        ((0.0, 0.1, 0.1, 0.8), "opposite"),  # a jump
        ((0.0, 0.3, 0.2, 0.6), "opposite"),  # a fall
        ((0.0, 0.1, 0.2, 0.3), "opposite"),  # ends too low
    ],
)
def test_c13_needs_a_smooth_rise_above_one_half(curve, verdict):
    assert words(claims.smooth_interpolation(path(curve), **MNIST)) == {"l2": verdict, "linf": verdict}


def test_c13_measures_its_parts_by_seed():
    claim = claims.smooth_interpolation(path((0.0, 0.3, 0.2, 0.6)), **MNIST)
    assert [measure.value for measure in claim.measures[:3]] == pytest.approx([0.601, 0.4, 0.1], abs=1e-3)


@pytest.mark.parametrize(
    ("claim", "table"),
    [
        (claims.gradients_align, gradients()),
        (claims.looks_like_another_class, judged()),
        (claims.smooth_interpolation, path((0.0, 1.0))),
    ],
)
def test_what_was_not_trained_or_never_changes_class_is_left_out(claim, table):
    assert set(words(claim(table[table.norm_train != "linf"], **MNIST))) == {"l2"}
    for missing in (table[table.norm_train != "standard"], table[table.norm_train == "standard"]):
        assert claim(missing, **MNIST).verdict == "not tested"


def test_a_single_seed_leaves_all_undecided():
    for claim, table in ((claims.gradients_align, gradients()), (claims.looks_like_another_class, judged())):
        assert set(words(claim(table[table.seed == 0], **MNIST)).values()) == {"undecided"}


def test_differences_are_paired_by_seed_in_any_order_of_rows():
    table = gradients()
    table["mean"] += 0.1 * table.seed
    for order in (table, table.sample(frac=1, random_state=0)):
        measure = claims.gradients_align(order, **MNIST).measures[0]
        assert measure.value == pytest.approx(0.3, abs=0.01)
        assert measure.high - measure.low < 0.01


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("values", [(0.5, 0.52, 0.55), (0.45, 0.52, 0.5), (0.44, 0.46, 0.47), (0.2, 0.5, 0.7)])
def test_the_four_words_are_those_of_scipys_intervals(values, direction):
    wide, narrow = (stats.t.interval(level, 2, *stats.norm.fit(values)[:1], stats.sem(values)) for level in (0.95, 0.9))
    above, below = wide[0] > 0.49, wide[1] < 0.49
    expected = "undecided"
    if above or below:
        expected = "reproduced" if above == (direction == 1) else "opposite"
    elif 0.43 < narrow[0] < narrow[1] < 0.55:
        expected = "equal"
    part = Part("l2", 1.5, "end", "x", values, 10, direction, 0.49, 0.06)
    assert word(part, confidence=0.95) == expected


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["reproduced"] * 2, "reproduced"),
        (["reproduced", "undecided"], "undecided"),
        (["reproduced", "equal"], "undecided"),
        (["equal", "opposite"], "opposite"),
        (["equal", "equal"], "equal"),
    ],
)
def test_all_parts_have_to_hold(parts, verdict):
    assert together(parts) == verdict
