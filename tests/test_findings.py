"""The sentences of the report: each follows its verdict, with the numbers of its effect."""

import pandas as pd
import pytest

from robacc.report import captions, findings

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


def test_a_claim_is_told_with_its_verdict_in_all_norms_or_in_one():
    own = claim(EFFECT, {**EFFECT, "norm": "l2", "eps": 1.5, "place": "at 1.5", "verdict": "equal"})
    own |= {
        "statement": "It costs.",
        "readings": [{key: each[key] for key in ("norm", "place", "verdict")} for each in own["effects"]],
    }
    text = findings.told([own, {**own, "id": "C1"}], "C2")
    assert text.startswith("**C2. It costs.** Verdict: in linf: reproduced; in l2: equal. On the full training set, ")
    assert "l2 eps 1.5" in text
    assert findings.told([own], "C2", norm="linf") == (
        "**C2. It costs.** Verdict: in linf: reproduced. On the full training set, "
        "training at linf eps 0.3 costs 0.97 points of standard accuracy [0.70, 1.20] (5 seeds)."
    )
    nothing = {**own, "effects": [], "readings": []}
    assert findings.told([nothing], "C2") == "**C2. It costs.** Verdict: not tested."


def test_captions_have_the_numbers_of_their_tables():
    balls = pd.DataFrame({"norm_train": ["standard", "linf", "linf"], "eps_train": [0.0, 0.3, 0.3], "seed": [1, 1, 2]})
    attacked = balls.assign(
        natural_fraction=0.0, images="sample", norm_test="linf", eps_test=0.3, accuracy=[0.1, 0.8, 0.9]
    )
    assert captions.robust(attacked, "mnist") == (
        "Attacked at linf eps 0.3, standard training keeps 10.0 % of the images, training there 85.0 %."
    )
    shares = balls.assign(quantity="changed", norm="l2", n=[9, 8, 7], mean=[0.1, 0.8, 0.9])
    assert captions.by_training(shares, "changed", "l2", "mnist") == (
        "standard: 10 %, linf eps 0.3: 85 % (at most 9 test images, 1 to 2 seeds)."
    )
    sizes = balls.assign(n_train=100, n=10000)
    assert captions.by_size(sizes) == "10,000 test images; 1 to 2 seeds at 100 training images."
    noise = pd.DataFrame(
        {"n_train": [20, 20, 3000, 3000], "seed": 0, "eps_train": [0.0, 0.2] * 2, "noise_share": [0.6, 0.5, 0.4, 0.0]}
    )
    assert captions.noise(noise) == (
        "With 20 training images, standard training puts 60 % of its weight on noise, training at linf eps 0.2 50 %. "
        "With 3,000 training images, standard training puts 40 % of its weight on noise, training at linf eps 0.2 0 % "
        "(1 seed)."
    )
    mean = pd.DataFrame({"fixed": "eta", "eta": 0.1, "d": [1000, 10], "std_acc": [0.99, 0.6], "rob_acc": [0.01, 0.4]})
    assert captions.dimension(mean) == (
        "With eta = 0.1, from d = 10 to d = 1,000, standard accuracy goes from 60.0 % to 99.0 %, "
        "robust accuracy from 40.0 % to 1.0 %."
    )
