"""The four words, by hand and by simulation, and the line of a claim."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from robacc.paper.ledger import (
    EQUAL,
    NOT_TESTED,
    OPPOSITE,
    REPRODUCED,
    UNDECIDED,
    WORDS,
    Claim,
    Measure,
    Reading,
    mean_over_seeds,
    of_measure,
    together,
    verdict,
    without_chance,
    word,
)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ((0.01, 0.03), (0.012, 0.028), REPRODUCED),
        ((-0.03, -0.01), (-0.028, -0.012), OPPOSITE),
        ((-0.004, 0.004), (-0.003, 0.003), EQUAL),
        ((-0.02, 0.004), (-0.018, 0.003), UNDECIDED),
        ((-0.004, 0.02), (-0.003, 0.018), UNDECIDED),
        # a difference that is decided and smaller than the margin has a sign
        ((0.001, 0.004), (0.0015, 0.0035), REPRODUCED),
        ((-0.004, -0.001), (-0.0035, -0.0015), OPPOSITE),
        # the wide interval may reach beyond the margin, the narrow one may not
        ((-0.006, 0.005), (-0.004, 0.004), EQUAL),
        ((-0.006, 0.006), (-0.005, 0.004), UNDECIDED),
        # 0 itself is on no side
        ((0.0, 0.02), (0.001, 0.019), UNDECIDED),
    ],
)
@pytest.mark.parametrize(("direction", "null"), [*product((1, -1), (0.0, 0.5))])
def test_the_word_follows_from_the_intervals(wide, narrow, expected, direction, null):
    def turned(interval):
        return tuple(sorted(null + direction * limit for limit in interval))

    # an interval turned about the null is as far on the claimed side of the other direction
    assert word(turned(wide), turned(narrow), direction=direction, margin=0.005, null=null) == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"direction": 0}, "direction 1 or -1"),
        ({"margin": 0.0}, "a margin above 0, got 1 and 0.0"),
        ({"margin": -0.1}, "a margin above 0"),
        ({"margin": float("nan")}, "a margin above 0"),
        ({"narrow": (-2.0, 0.5)}, "the narrow interval inside the wide one"),
        ({"wide": (float("nan"), 1.0)}, "the narrow interval inside the wide one"),
    ],
)
def test_what_gives_no_verdict_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        word(**{"wide": (-1.0, 1.0), "narrow": (-0.5, 0.5), "direction": 1, "margin": 0.1, **change})


def shares(mean, *, margin, n_seeds=8, spread=1.0, n=4000, direction=1):
    """Return the share of each word over `n` experiments, of seeds that are normal about `mean`."""
    values = np.random.default_rng(0).normal(mean, spread, size=(n, n_seeds))
    found = [verdict(row, direction=direction, margin=margin) for row in values]
    return {each: found.count(each) / n for each in WORDS}


@pytest.mark.parametrize("direction", [1, -1])
def test_without_an_effect_each_side_is_claimed_in_one_of_forty_cases(direction):
    found = shares(0.0, margin=0.01, direction=direction)
    assert found[REPRODUCED] == pytest.approx(0.025, abs=0.007)
    assert found[OPPOSITE] == pytest.approx(0.025, abs=0.007)


@pytest.mark.parametrize("mean", [1.0, -1.0])
def test_at_the_margin_equal_is_said_in_at_most_one_of_twenty_cases(mean):
    found = shares(mean, margin=1.0, spread=0.3)
    assert found[EQUAL] <= 0.057
    assert shares(0.0, margin=1.0, spread=0.3)[EQUAL] > 0.9


@pytest.mark.parametrize(("mean", "n_seeds"), [(0.5, 3), (1.0, 5), (1.0, 8)])
def test_the_power_is_that_of_the_noncentral_t(mean, n_seeds):
    critical = stats.t.ppf(0.975, n_seeds - 1)
    expected = stats.nct.sf(critical, n_seeds - 1, mean * np.sqrt(n_seeds))
    found = shares(mean, margin=0.01, n_seeds=n_seeds)
    assert found[REPRODUCED] == pytest.approx(expected, abs=0.03)
    assert shares(mean, margin=0.01, n_seeds=n_seeds, direction=-1)[OPPOSITE] == found[REPRODUCED]


def test_the_verdict_on_a_share_is_against_its_null():
    values = [0.6, 0.62, 0.61, 0.63]
    assert verdict(values, direction=1, margin=0.01, null=0.5) == REPRODUCED
    assert verdict(values, direction=1, margin=0.01, null=0.7) == OPPOSITE
    assert verdict(values, direction=1, margin=0.1, null=0.615) == EQUAL
    with pytest.raises(ValueError, match="two values or more"):
        verdict([0.6], direction=1, margin=0.01)


def test_a_measure_over_seeds_has_both_intervals():
    values = [0.1, 0.2, 0.4, 0.3]
    measure = mean_over_seeds("x", values, n=5, confidence=0.95)
    for limits, level in (((measure.low, measure.high), 0.95), (measure.narrow, 0.90)):
        assert limits == pytest.approx(stats.t.interval(level, 3, loc=np.mean(values), scale=stats.sem(values)))
    assert (measure.value, measure.n, measure.seeds) == (pytest.approx(0.25), 5, 4)
    assert of_measure(measure, direction=1, margin=0.01) == verdict(values, direction=1, margin=0.01) == REPRODUCED


def test_one_seed_decides_nothing():
    measure = mean_over_seeds("x", [0.4], n=5, confidence=0.95)
    assert (measure.low, measure.high, measure.narrow) == (-1.0, 1.0, None)
    assert of_measure(measure, direction=1, margin=2.0) == UNDECIDED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, OPPOSITE, UNDECIDED], OPPOSITE),
        ([EQUAL, EQUAL], EQUAL),
        ([REPRODUCED, EQUAL], UNDECIDED),
        ([REPRODUCED, UNDECIDED], UNDECIDED),
    ],
)
def test_parts_that_must_all_hold(words, expected):
    assert together(words) == together(reversed(words)) == expected


def test_without_chance_there_are_two_words():
    assert [without_chance(holds) for holds in (True, False)] == [REPRODUCED, OPPOSITE]


def claim(*readings):
    return Claim("C2", "", "", "", [Reading(*reading) for reading in readings], [Measure("x", 0, 0, 0, 1, 1)])


@pytest.mark.parametrize(
    ("readings", "line"),
    [
        ([("", "", REPRODUCED)], "reproduced"),
        (
            [("linf", "at 0.3", REPRODUCED), ("l2", "at 1.5", EQUAL), ("l2", "at 2.5", REPRODUCED)],
            "linf: reproduced; l2: equal at 1.5, reproduced at 2.5",
        ),
        (
            [("l2", "at 1.5", EQUAL), ("l2", "at 2", OPPOSITE), ("l2", "at 3", EQUAL)],
            "l2: equal at 1.5 and at 3, opposite at 2",
        ),
        ([("l2", "", UNDECIDED), ("linf", "", REPRODUCED)], "l2: undecided; linf: reproduced"),
        ([], "not tested"),
    ],
)
def test_the_line_says_every_norm(readings, line):
    assert claim(*readings).verdict == line


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ([("l2", "at 1.5", EQUAL), ("l2", "at 2.5", REPRODUCED), ("linf", "", REPRODUCED)],
         {"l2": "equal, reproduced", "linf": "reproduced"}),
        ([("", "", OPPOSITE)], OPPOSITE),
        ([], NOT_TESTED),
    ],
)  # fmt: skip
def test_the_words_leave_out_the_places(readings, words):
    assert claim(*readings).words == words
