"""Numbers of others: only those that were read at their source, and what they say of the paper's claims."""

from pathlib import Path

import pandas as pd
import pytest

from robacc.datasets import facts
from robacc.paper import published

FILE = Path(__file__).parent.parent / "data/published.csv"


def row(training, norm, eps, std_acc, *, share=0.0, rob_acc=None, source="a", mark="yes", dataset="mnist"):
    columns = {"dataset": dataset, "training": training, "norm": norm, "eps": eps, "natural_fraction": share}
    return {**columns, "std_acc": std_acc, "rob_acc": rob_acc, "attack": "", "source": source, "read_at_source": mark}


TABLE = pd.DataFrame(
    [
        row("standard", "", 0.0, 99.3),
        row("pgd", "linf", 0.3, 98.9, rob_acc=90.0),
        row("pgd", "l2", 1.5, 99.4),
        row("trades", "linf", 0.3, 99.5),  # another training
        row("pgd", "linf", 0.3, 98.5, source="b"),  # no standard net to compare with
        row("standard", "", 0.0, 99.0, source="c", mark="no"),  # quoted, not read
        row("pgd", "linf", 0.3, 98.0, source="c", mark="no"),
        row("pgd", "linf", 0.3, 98.95, share=0.5, rob_acc=88.5),
        row("standard", "", 0.0, 95.0, dataset="cifar10"),
        row("pgd", "linf", 0.3, None, source="d"),
    ]
)


def test_gains_are_within_a_source_and_of_the_papers_training():
    found = published.gains(TABLE, "mnist")
    assert found.at == {("linf", 0.3): [pytest.approx(-0.004)], ("l2", 1.5): [pytest.approx(0.001)]}
    assert found.lines == ["linf eps 0.3: -0.40; l2 eps 1.5: +0.10 points (a)"]
    assert published.gains(TABLE, "cifar10") == published.Gains()


def test_halves_are_compared_with_all_adversarial_training_of_the_same_source():
    assert published.halves(TABLE, "mnist") == [
        "linf eps 0.3: standard accuracy +0.05, robust accuracy -1.50 points (a)"
    ]


def test_what_nobody_read_is_not_used():
    assert set(published.read(TABLE).source) == {"a", "b"}
    assert len(published.of_paper(TABLE, "mnist")) == 4


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("read_at_source", "maybe", "read_at_source to be yes or no in published.csv, got 'maybe'"),
        ("std_acc", 101.0, "std_acc in percent in published.csv, got 101.0"),
        ("rob_acc", -1.0, "rob_acc in percent"),
    ],
)
def test_a_wrong_cell_is_named(column, value, words):
    table = TABLE.copy()
    table.loc[1, column] = value
    with pytest.raises(ValueError, match=words):
        published.read(table)


def test_the_committed_file_can_be_read_and_names_a_source_for_every_number():
    table = pd.read_csv(FILE)
    rows = published.read(table)
    assert len(rows) > 20
    assert table.source.notna().all()
    assert set(table.dataset) <= {*facts.NAMES, "imagenet"}
    assert (rows.std_acc > 50).all()  # in percent
    assert len(published.gains(table, "mnist").lines) == 2
    paper = table[table.source.str.startswith("Tsipras")]
    assert set(paper.natural_fraction) == {0.0, 0.5}


def test_the_papers_rows_are_used_when_a_reader_has_filled_them_in():
    table = pd.read_csv(FILE)
    assert published.halves(table, "mnist") == []
    paper = table.source.str.startswith("Tsipras") & (table.norm == "l2") & (table.dataset == "mnist")
    table.loc[paper, ["std_acc", "rob_acc"]] = [[90.0, 60.0], [91.0, 57.0]]
    table.loc[paper, "read_at_source"] = "yes"
    assert published.halves(table, "mnist") == [
        "l2 eps 1.5: standard accuracy +1.00, robust accuracy -3.00 points (Tsipras et al. 2019, Table 4)"
    ]


# fault: fuzz of CSV readers
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="std_acc"), "got none named std_acc"),
        (lambda table: table.rename(columns={"norm": "Norm"}), "got none named norm"),
        (lambda table: table.assign(eps="0.3 / 1"), "the column eps of published.csv"),
        (lambda table: table.assign(rob_acc="90 %"), "the column rob_acc of published.csv"),
        (lambda table: table.assign(read_at_source=None), "read_at_source to be yes or no"),
        (lambda table: table.assign(std_acc=0.993 * 1e4), "std_acc in percent"),
    ],
)
def test_another_form_of_the_table_is_refused_in_one_line(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        published.read(change(TABLE))
    assert "\n" not in str(caught.value)
