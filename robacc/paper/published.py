"""Say what other people's runs of the paper's experiment gave, from a table of published numbers.

Each row of the table is one net. Accuracies are in percent, as they were published. Only rows that were read at their
source are used; a row that nobody here has read may stand there without numbers.
"""

from dataclasses import dataclass, field

import pandas as pd

TRAININGS = ("standard", "pgd")  # that are the paper's
PAPER = "Tsipras et al. 2019, Table 4"
NUMBERS = ("eps", "natural_fraction", "std_acc", "rob_acc")
COLUMNS = ("dataset", "training", "norm", *NUMBERS, "attack", "source", "read_at_source")


def read(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that were read at their source and have a standard accuracy.

    Raises ValueError for an absent column, a word where a number belongs, or a wrong mark or accuracy. Marks are yes
    and no, and accuracies from 0 to 100.
    """
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise ValueError(f"expected the columns {', '.join(COLUMNS)} in published.csv, got none named {absent[0]}")
    for column in NUMBERS:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise ValueError(f"expected numbers or nothing in the column {column} of published.csv, got a word")
    marks = sorted(set(table.read_at_source.astype(str)) - {"yes", "no"})
    if marks:
        raise ValueError(f"expected read_at_source to be yes or no in published.csv, got {marks[0]!r}")
    for column in ("std_acc", "rob_acc"):
        wrong = table[column][~(table[column].isna() | table[column].between(0, 100))]
        if len(wrong):
            raise ValueError(f"expected {column} in percent in published.csv, got {wrong.iloc[0]}")
    return table[(table.read_at_source == "yes") & table.std_acc.notna()]


def of_paper(table: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the rows of `read` with nets of `dataset` that were trained as in the paper, all adversarial."""
    rows = read(table)
    return rows[(rows.dataset == dataset) & rows.training.isin(TRAININGS) & (rows.natural_fraction == 0)]


@dataclass(frozen=True)
class Gains:
    """Standard accuracy of robust nets minus that of the standard one of the same source.

    `lines` says them in points, a line a source. `at` has them as shares, by norm and eps.
    """

    lines: list[str] = field(default_factory=list)
    at: dict[tuple[str, float], list[float]] = field(default_factory=dict)


def gains(table: pd.DataFrame, dataset: str) -> Gains:
    """Return the gains of each source that has a standard net."""
    found = Gains()
    for source, rows in of_paper(table, dataset).groupby("source", sort=False):
        standard = rows[rows.training == "standard"]
        robust = rows[rows.training != "standard"]
        if len(standard) == 1 and len(robust):
            base = standard.std_acc.iloc[0]
            each = [f"{row.norm} eps {row.eps:g}: {row.std_acc - base:+.2f}" for row in robust.itertuples()]
            found.lines.append(f"{'; '.join(each)} points ({source})")
            for norm, eps, gain in zip(robust.norm, robust.eps, (robust.std_acc - base) / 100, strict=True):
                found.at.setdefault((norm, eps), []).append(gain)
    return found


def table_4(table: pd.DataFrame, dataset: str, norm: str, eps: float, natural_fraction: float) -> str:
    """Return the paper's own standard and robust accuracy of one net, or "" where nobody has filled them in."""
    rows = read(table)
    same = (rows.dataset == dataset) & (rows.norm == norm) & (rows.eps == eps)
    own = rows[same & (rows.source == PAPER) & (rows.natural_fraction == natural_fraction)]
    return f"{own.std_acc.iloc[0]:.2f} / {own.rob_acc.iloc[0]:.2f}" if len(own) else ""


def halves(table: pd.DataFrame, dataset: str) -> list[str]:
    """Return, for each source, accuracies of half natural minus those of all adversarial training."""
    rows = read(table)
    rows = rows[(rows.dataset == dataset) & (rows.training == "pgd")]
    lines = []
    for (source, norm, eps), own in rows.groupby(["source", "norm", "eps"], sort=False):
        by_share = own.set_index("natural_fraction")[["std_acc", "rob_acc"]]
        if {0.0, 0.5} <= set(by_share.index):
            std, rob = by_share.loc[0.5] - by_share.loc[0.0]
            lines.append(
                f"{norm} eps {eps:g}: standard accuracy {std:+.2f}, robust accuracy {rob:+.2f} points ({source})"
            )
    return lines
