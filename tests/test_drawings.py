"""The drawings of the report, as SVG: where marks are, what they say, what they do with a hostile name."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robacc.report import charts, curves, explorer, forest, legends
from tests import results_made_up
from tests.test_findings import EFFECT

SERIES = charts.Series("a<b>", [100, 1000, 10000], [0.5, 0.7, 0.9], [0.4, 0.6, 0.8], [0.6, 0.8, 1.0])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_the_axis_keeps_order_and_has_room(values):
    effects = [{**EFFECT, "value": value, "low": None, "high": None} for value in values]
    axis = forest.scale(effects)
    places = [axis.at(value) for value in sorted([0.0, *values])]
    assert places == sorted(places)
    assert 0 < places[0] <= places[-1] < 100


def test_a_row_has_a_mark_and_an_interval_for_each_effect_and_says_them():
    effects = [EFFECT, {**EFFECT, "verdict": "opposite", "low": None, "high": None, "published": [0.0036]}]
    row = forest.row(effects, forest.scale(effects))
    assert row.count('class="mark"') == 2
    assert row.count('class="interval"') == 1
    assert row.count('class="published"') == 1
    assert row.count('class="margin"') == 2
    assert "at 0.3: 0.97 points [0.70, 1.20], 5 seeds, reproduced; at 0.3: 0.97 points one seed" in row
    assert "published: 0.36" in row


def test_every_word_has_its_own_shape():
    assert len(set(forest.MARKS.values())) == len(forest.MARKS) == 4


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.02, 0.2, ["-1", "0", "+1", "+10"]),  # a tenth of a point would touch 0
        (-0.0015, 0.0015, ["-0.1", "0", "+0.1"]),
        (-1.5, 1.5, ["-100", "-10", "-1", "0", "+1", "+10", "+100"]),
    ],
)
def test_the_ruler_has_zero_and_the_powers_of_ten_that_have_room(low, high, expected):
    found = re.findall(r'x="([0-9.]+)%"[^>]*>([^<]*)</text>', forest.ruler(forest.Scale(low, high)))
    assert [label for _, label in found] == expected
    assert np.diff([float(x) for x, _ in found]).min() >= 12


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.953, 0.9921), (0.98, 0.981)])
def test_ticks_are_few_round_and_inside(low, high):
    found = charts.ticks(low, high)
    assert 3 <= len(found) <= 11
    assert low <= found[0] <= found[-1] <= high


def test_a_chart_says_its_ends_and_carries_its_values():
    html = charts.chart("Accuracy", [SERIES], x_label="images", x_text="{:g}".format, log=True)
    assert "Curves of Accuracy: a&lt;b&gt; from 50.00 % at 100 to 90.00 % at 10000." in html
    assert "<b>" not in html
    assert "70.00 %" in html
    lefts = [float(x) for x in re.findall(r'class="s0" x="([0-9.]+)%"', html)]
    assert np.allclose(np.diff(lefts), np.diff(lefts)[0], atol=0.02)  # powers of ten are equally far apart


def test_curves_have_a_line_for_each_training():
    tables = results_made_up.tables("mnist", 2)
    sizes = curves.by_size(tables["sizes"], "l2", "mnist")
    assert sizes.count('class="line ') == 2 * 4  # all sizes and the largest; standard and three eps
    assert "\N{SCRIPT SMALL L}2 2.5" in sizes
    models = pd.DataFrame(results_made_up.trained("mnist"))
    assert curves.by_judge(tables["pictures"], models, "mnist").count('class="line ') == 2 * 3
    assert curves.by_test_eps(tables["accuracy"], "mnist").count('class="line ') == 2 * len(models)


def looks(html: str) -> dict[str, tuple[str, str]]:
    """Return the colour and the shape of each entry of a legend."""
    return {
        name: (colour, path)
        for colour, path, name in re.findall(r'<li><svg class="(\w+)".*?d="(.*?)".*?</svg>(.*?)</li>', html)
    }


def test_a_training_has_one_colour_and_shape_in_all_curves():
    tables = results_made_up.tables("mnist", 2)
    models = pd.DataFrame(results_made_up.trained("mnist"))
    everywhere = looks(curves.by_test_eps(tables["accuracy"], "mnist"))
    assert len(set(everywhere.values())) == len(everywhere) == len(models)
    others = [curves.by_size(tables["sizes"], norm, "mnist") for norm in ("l2", "linf")]
    for html in (*others, curves.by_judge(tables["pictures"], models, "mnist")):
        assert looks(html).items() <= everywhere.items()


def test_any_number_of_trainings_has_looks_of_its_own_in_the_colours_of_the_page():
    eps = [float(index) for index in range(15)]
    html = charts.chart("a", [charts.Series(f"{each}", [0, 1], [0, 1], look=each) for each in range(15)], x_label="x")
    found = looks(html)
    assert len(set(found.values())) == 15
    assert {colour for colour, _ in found.values()} == {f"s{index}" for index in range(7)}
    assert [look for look, (colour, _) in found.items() if colour == "s0"] == ["0"]  # standard training alone
    assert legends.looks(["standard"] + ["l2"] * 14, eps)["l2", 14.0] == 14
    assert legends.looks(["linf", "standard", "l2"], [0.1, 0.0, 2.0]) == {
        ("standard", 0): 0,
        ("l2", 2): 1,
        ("linf", 0.1): 2,
    }


def test_published_numbers_differ_from_seeds_in_shape():
    table = pd.DataFrame({"dataset": "mnist", "training": "pgd", "norm": "linf", "eps": [0.1], "natural_fraction": 0.0})
    table = table.assign(std_acc=90.0, rob_acc=50.0, attack="", source="a", read_at_source="yes")
    html = curves.by_training_eps(results_made_up.tables("mnist", 2)["accuracy"], table, "mnist")
    shapes = re.findall(r'<li><svg class="s0 outline".*?d="(.*?)".*?</svg>(.*?)</li>', html)
    assert set(shapes) == {(charts.CROSS, "one seed"), (charts.DIAMOND, "published")}


def test_a_model_that_is_not_attacked_in_a_norm_has_no_curve_there():
    accuracy = results_made_up.tables("mnist", 2)["accuracy"]
    own = accuracy[(accuracy.norm_test == "none") | (accuracy.norm_test == accuracy.norm_train)]
    attacked = own[own.norm_train != "standard"]
    assert curves.by_test_eps(attacked, "mnist").count('class="line ') == attacked.model.nunique()


def test_the_explorer_names_the_rows_of_each_model(tmp_path):
    results_made_up.write(tmp_path, "mnist")
    models = pd.DataFrame(results_made_up.trained("mnist"))
    found = explorer.explorer(tmp_path / "results/visualize", models, "mnist")
    assert found["rows"] == 1 + 3 * len(models)
    assert [row for model in found["models"] for row in model["row"].values()] == list(range(1, found["rows"]))
    assert all(len(read) == len(found["classes"]) for model in found["models"] for read in model["read"].values())
    assert found == explorer.explorer(tmp_path / "results/visualize", models, "mnist")
