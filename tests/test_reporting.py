"""The words and tables of the report."""

import pandas as pd

from robacc import reporting

MEASURE = {"name": "gain", "value": 0.012, "low": 0.01, "high": 0.014, "n": 10000, "seeds": 3, "is_difference": True}
CLAIM = {"id": "C1", "statement": "a |b|", "verdict": "reproduced", "measures": [MEASURE], "remark": ""}


def test_a_difference_is_in_signed_points_and_a_share_in_percent():
    assert reporting.interval(MEASURE) == "gain: +1.20 points [+1.00, +1.40]"
    assert reporting.interval({**MEASURE, "is_difference": False}) == "gain: 1.20 % [1.00, 1.40]"


def test_a_single_seed_has_no_interval():
    assert reporting.interval({**MEASURE, "low": -1.0, "high": 1.0}).endswith("[one seed, no interval]")


def test_the_sample_is_said_once_where_all_measures_share_it():
    assert reporting.measured(CLAIM) == [reporting.interval(MEASURE), "(n = 10,000, 3 seeds)"]
    two = {**CLAIM, "measures": [MEASURE, {**MEASURE, "n": 0}]}
    assert [line.rsplit("(", 1)[1] for line in reporting.measured(two)] == ["n = 10,000, 3 seeds)", "exact)"]


def test_the_summary_is_a_table_of_four_columns():
    row = reporting.summary([CLAIM]).splitlines()[-1]
    assert row.replace("\\|", "").count("|") == 5
    assert "a \\|b\\|" in row


def test_only_settings_that_differ_are_deviations():
    assert reporting.differences({"a": 1, "b": 2}, {"a": 1, "b": 3}) == [("b", "2", "3")]


def test_half_table_has_standard_and_robust_accuracy_of_both_trainings():
    rows = [
        {"norm_train": "l2", "eps_train": 1.5, "natural_fraction": share, "norm_test": norm, "eps_test": eps}
        | {"accuracy": value, "seed": 0}
        for share in (0.0, 0.5)
        for norm, eps, value in (("none", 0.0, 0.9), ("l2", 1.5, 0.8), ("l2", 0.5, 0.1))
    ]
    table = reporting.half_table(pd.DataFrame(rows))
    assert table.training.tolist() == ["l2 eps 1.5"]
    assert sorted(table.drop(columns="training").iloc[0]) == ["80.00", "80.00", "90.00", "90.00"]


def test_formulas_become_mathml():
    assert "<math" in reporting.math(r"\frac{p}{1-p}")
