"""From every example's outcome to the contrasts that claims read: which models are compared, on which seeds."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robacc.balls import parse
from robacc.files import write_arrays
from robacc.paper.contrasts import table
from stages import summarize

N = 400
# Balls with the accuracies of their seeds 5, 6, ... on the full set; standard training has one seed more.
FULL = {"standard": [0.95, 0.96, 0.97], "l2-0.5": [0.97, 0.97], "l2-1.5": [0.9, 0.92]}
SMALL = {"standard": [0.5, 0.6], "l2-0.5": [0.6, 0.7], "l2-1.5": [0.7, 0.8]}
LABELS = np.arange(N) % 10
HALF, ROBUST = [0.93, 0.94], {0.0: [0.6, 0.7], 0.5: [0.5, 0.65]}


def right(share: float) -> np.ndarray:
    return np.random.default_rng(round(1000 * share)).permutation(N) < round(N * share)


@pytest.fixture(params=[None])
def rows(tmp_path, monkeypatch, request) -> pd.DataFrame:
    """Write the outcomes of a run that never was and return its contrasts; a parameter is the ball of a dead model."""
    monkeypatch.chdir(tmp_path)
    for cached in (summarize.outcomes, summarize.opinions, summarize.worst_case):
        cached.cache_clear()
    columns = ["seed", "natural_fraction", "norm", "eps", "image", "fooled_by"]
    monkeypatch.setattr(summarize, "opinions", lambda _: pd.DataFrame(columns=columns))  # AutoAttack found nothing
    for ball, shares in FULL.items():
        arrays = {f"seed{5 + i}-natural0.0-correct": right(share) for i, share in enumerate(shares)} | {"y": LABELS}
        if ball == request.param:
            arrays["seed6-natural0.0-correct"] = LABELS == 3  # the model answers 3 for everything
        small = {f"100-seed{5 + i}-correct": right(share) for i, share in enumerate(SMALL[ball])}
        small |= {"1000-seed5-correct": right(0.8)}  # one seed: no row
        if ball == "l2-1.5":
            arrays |= {f"seed{5 + i}-natural0.5-correct": right(share) for i, share in enumerate(HALF)}
            for (fraction, shares), i in product(ROBUST.items(), range(2)):
                fooling = np.where(
                    right(shares[i]), 2.0, 1.5
                )  # an example that falls at eps itself is not robust there
                order = np.random.default_rng(i).permutation(N)  # outcomes are compared by the image's index
                arrays[f"seed{5 + i}-natural{fraction}-l2-fooling-eps"] = fooling[order]
                arrays[f"seed{5 + i}-natural{fraction}-indices"] = order
        write_arrays(arrays, Path("results/evaluate") / f"set-{ball}" / "outcomes.npz")
        write_arrays(small, Path("results/sweep") / f"set-{ball}" / "outcomes.npz")
    balls = {f"set-{word}": parse(word) for word in FULL}
    yield table(summarize.contrasts(balls, 60000), confidence=0.95)
    summarize.outcomes.cache_clear()


def test_the_contrasts_are_the_differences_of_the_accuracies(rows):
    found = {
        (row.contrast, row.kind, row.n_train, row.eps_base, row.eps): (row.value, row.seeds, row.n)
        for row in rows.itertuples()
    }
    expected = {
        ("robust", "std_acc", 100, 0.0, 0.5): 0.1,
        ("robust", "std_acc", 100, 0.0, 1.5): 0.2,
        ("robust", "std_acc", 60000, 0.0, 0.5): 0.97 - 0.955,
        ("robust", "std_acc", 60000, 0.0, 1.5): 0.91 - 0.955,
        ("step", "std_acc", 60000, 0.0, 0.5): 0.97 - 0.955,
        ("step", "std_acc", 60000, 0.5, 1.5): 0.91 - 0.97,
        ("slope", "std_acc", 60000, 0.0, 1.5): 1.5 * np.polyfit([0.0, 0.5, 1.5], [0.955, 0.97, 0.91], 1)[0],
        ("half", "std_acc", 60000, 1.5, 1.5): 0.935 - 0.91,
        ("half", "rob_acc", 60000, 1.5, 1.5): 0.575 - 0.65,
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value), 2, N)
    assert (rows.norm == "l2").all()


@pytest.mark.parametrize("rows", ["l2-1.5"], indirect=True)
def test_contrasts_name_the_models_that_answer_one_class(rows):
    said = "the l2-1.5 model of seed 6 did not learn"
    found = {(row.contrast, row.kind, row.n_train, row.eps): row.unlearned for row in rows.itertuples()}
    reading = [("robust", "std_acc", 60000, 1.5), ("step", "std_acc", 60000, 1.5), ("slope", "std_acc", 60000, 1.5)]
    reading += [("half", kind, 60000, 1.5) for kind in ("std_acc", "rob_acc")]
    assert found == {key: said if key in reading else "" for key in found}
    assert set(reading) < set(found)
