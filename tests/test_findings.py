"""The sentences of the report: each follows its verdict, with the numbers of its effect."""

import pytest

from robacc.report import findings

EFFECT = {"norm": "linf", "eps": 0.3, "place": "at 0.3", "verdict": "reproduced", "value": 0.0097, "low": 0.007}
EFFECT |= {"high": 0.012, "null": 0.0, "margin": 0.001, "seeds": 5, "published": []}


def claim(*effects: dict, number: str = "C2") -> dict:
    return {"id": number, "effects": list(effects), "measures": []}


@pytest.mark.parametrize(
    ("verdict", "value", "interval", "said"),
    [
        ("reproduced", 0.0097, (0.007, 0.012), "costs 0.97 points of standard accuracy [0.70, 1.20]"),
        ("opposite", -0.0097, (-0.012, -0.007), "gains 0.97 points of standard accuracy [0.70, 1.20]"),
        ("equal", 0.0002, (-0.0003, 0.0007), "changes standard accuracy by less than 0.1 points [-0.07, 0.03]"),
        ("undecided", 0.0097, (-0.01, 0.03), "may raise or lower standard accuracy [-3.00, 1.00]"),
    ],
)
def test_a_change_is_told_by_its_verdict(verdict, value, interval, said):
    effect = {**EFFECT, "verdict": verdict, "value": value, "low": interval[0], "high": interval[1]}
    assert findings.change(effect, "C2") == said


def test_the_headline_is_at_the_largest_eps_of_each_norm_and_the_section_has_the_rest():
    small = {**EFFECT, "eps": 0.1, "value": 0.001, "low": 0.0005, "high": 0.0015}
    other = {**EFFECT, "norm": "l2", "eps": 1.5, "value": 0.02, "low": 0.01, "high": 0.03, "seeds": 3}
    own = claim(small, EFFECT, other)
    assert findings.sentence(own) == (
        "On the full training set, "
        "training at linf eps 0.1 costs 0.10 points of standard accuracy [0.05, 0.15] (5 seeds)."
    )
    assert findings.sentence(claim(EFFECT)) == ""
    assert findings.headline({"MNIST": [own]}) == (
        "On MNIST, yes: on the full training set, "
        "training at linf eps 0.3 costs 0.97 points of standard accuracy [0.70, 1.20]; "
        "training at l2 eps 1.5 costs 2.00 points [1.00, 3.00] (3 to 5 seeds)."
    )


def test_a_single_seed_has_no_interval():
    effect = {**EFFECT, "low": None, "high": None, "verdict": "undecided", "seeds": 1}
    assert findings.headline({"MNIST": [claim(effect)]}).endswith("[one seed, no interval] (1 seed).")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["reproduced", "reproduced"], "yes"),
        (["reproduced", "undecided"], "in part"),
        (["reproduced", "opposite"], "in part"),
        (["equal", "equal"], "no"),
        (["opposite"], "no, the other way"),
        (["undecided"], "undecided"),
        (["equal", "undecided"], "undecided"),
        ([], "undecided"),
    ],
)
def test_the_answer_is_yes_only_if_every_reading_of_c2_is_reproduced(words, answer):
    own = claim(*({**EFFECT, "verdict": word} for word in words))
    assert findings.answer([own, claim({**EFFECT, "verdict": "opposite"}, number="C1")]) == answer


def test_the_headline_has_each_data_set_that_was_tested():
    text = findings.headline({"MNIST": [claim(EFFECT)], "CIFAR-10": [claim()]})
    assert text.startswith("On MNIST, yes: on the full training set, training at linf eps 0.3 costs 0.97 points")
    assert "CIFAR" not in text
    assert findings.headline({}) == "Not tested: no nets were trained."


def test_verdicts_stand_by_norm_and_name_their_places_where_they_differ():
    readings = [
        {"norm": norm, "place": place, "verdict": word}
        for norm, place, word in (
            ("l2", "at 1.5", "equal"),
            ("l2", "at 2.5", "reproduced"),
            ("linf", "at 0.3", "opposite"),
        )
    ]
    assert findings.marks([EFFECT], readings) == [
        ("l2", [], "reproduced at 2.5, equal at 1.5"),
        ("linf", [EFFECT], "opposite"),
    ]


def test_a_trade_names_both_accuracies_and_the_eps_in_words_and_a_mark_has_them_in_short():
    own = [
        {**EFFECT, "place": "in standard accuracy at eps 0.3"},
        {**EFFECT, "place": "in robust accuracy at eps 0.3", "verdict": "undecided"},
    ]
    assert findings.sentence(claim(*own, number="C4")) == (
        "A half of natural images in each batch at linf eps 0.3 gains 0.97 points of standard accuracy [0.70, 1.20] "
        "and may raise or lower robust accuracy [-1.20, -0.70] (5 seeds)."
    )
    readings = [{key: each[key] for key in ("norm", "place", "verdict")} for each in own]
    ((norm, effects, text),) = findings.marks(own, readings)
    assert [effect["place"] for effect in effects] == ["standard, 0.3", "robust, 0.3"]
    said = "reproduced in standard accuracy at eps 0.3, undecided in robust accuracy at eps 0.3"
    assert (norm, text) == ("linf", said)
    also = [{**each, "place": each["place"].replace("0.3", "0.1"), "verdict": "equal"} for each in readings]
    first, last = said.split(", ")
    assert findings.marks([], readings + also)[0][2] == f"{first}, equal in both accuracies at eps 0.1, {last}"
    assert findings.marks([{**EFFECT, "place": "in total"}], readings)[0][1][0]["place"] == "in total"


def test_a_claim_without_measures_has_no_sentence():
    assert findings.sentence({"id": "C6", "effects": [], "measures": []}) == ""


def test_shares_are_told_from_their_null():
    effect = {**EFFECT, "place": "robust judge", "value": 0.43, "null": 0.5}
    assert "in 93 % after training at linf eps 0.3" in findings.sentence(claim(effect, number="C12"))
