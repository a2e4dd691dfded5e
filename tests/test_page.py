"""The words and tables of the report."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from robacc.report import page
from robacc.sources import cifar10, restricted_imagenet

MEASURE = {"name": "gain", "value": 0.012, "low": 0.01, "high": 0.014, "n": 10000, "seeds": 3, "is_difference": True}
CLAIM = {"id": "C1", "statement": "a |b|", "verdict": "reproduced", "measures": [MEASURE], "remark": ""}


def test_a_difference_is_in_signed_points_and_a_share_in_percent():
    assert page.interval(MEASURE) == "gain: +1.20 points [+1.00, +1.40]"
    assert page.interval({**MEASURE, "is_difference": False}) == "gain: 1.20 % [1.00, 1.40]"


def test_a_single_seed_has_no_interval():
    assert page.interval({**MEASURE, "low": -1.0, "high": 1.0}).endswith("[one seed, no interval]")


def test_the_sample_is_said_once_where_all_measures_share_it():
    assert page.measured(CLAIM) == [page.interval(MEASURE), "(n = 10,000, 3 seeds)"]
    two = {**CLAIM, "measures": [MEASURE, {**MEASURE, "n": 0}]}
    assert [line.rsplit("(", 1)[1] for line in page.measured(two)] == ["n = 10,000, 3 seeds)", "exact)"]


def test_the_summary_is_a_table_of_four_columns():
    row = page.summary([CLAIM], {}).splitlines()[-1]
    assert row.replace("\\|", "").count("|") == 5
    assert "a \\|b\\|" in row


def test_the_summary_has_a_section_for_each_further_data_set():
    other = {**CLAIM, "verdict": "not reproduced"}
    first, second = page.summary([CLAIM], {"CIFAR-10": [other]}).split("\n## CIFAR-10\n")
    assert "1 reproduced" in first
    assert "1 not reproduced" in second


def test_claims_are_ordered_by_number():
    ids = [claim["id"] for claim in page.by_number([{"id": "C10"}, {"id": "C2"}, {"id": "C1"}])]
    assert ids == ["C1", "C2", "C10"]


@pytest.mark.parametrize(
    ("train", "test", "words", "lacks"),
    [
        ({}, {}, "the published files", ""),
        ({"source": "official archive"}, {"source": "official archive"}, "the published archive", ""),
        ({"source": "user's PNG tree"}, {"source": "user's PNG tree"}, "not lossy", ""),
        ({"source": "user's JPEG tree"}, {"source": "user's JPEG tree"}, "so it is lossy", ""),
        ({"source": "user's ImageNet", "missing": ["n01", "n02"]},) * 2
        + ("the user's copy of ImageNet", "train and test: n01, n02"),
        ({"missing": ["n01"]}, {"missing": ["n02"]}, "the published files", "train: n01; test: n02"),
        ({"source": "a new kind"}, {}, "a new kind and the published files", ""),
    ],
)
def test_the_source_of_the_data_is_told_from_the_headers(tmp_path, train, test, words, lacks):
    for split, about in (("train", train), ("test", test)):
        header = {"json": json.dumps({"sha256": "0", **about})}
        save_file({"x": np.zeros(1)}, tmp_path / f"{split}.safetensors", metadata=header)
    said = page.data_source(tmp_path)
    assert words in said["data"]
    assert said["lacks"] == lacks


def test_every_source_that_the_data_can_have_has_its_words():
    assert {cifar10.OFFICIAL, restricted_imagenet.SOURCE} <= page.SOURCES.keys()


def test_the_rule_of_the_pictures_is_that_of_the_files(tmp_path):
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file, predicted in zip(files, ([0, 1, 1], [0, 0, 2]), strict=True):
        np.savez(file, y=np.array([0, 1, 2]), predicted=np.array(predicted), x=np.zeros(3))
    assert page.picture_rule(files, "cifar10").endswith("is such: automobile, bird.")
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        page.picture_rule([tmp_path / "c.npz"], "cifar10")


def test_colour_pictures_are_embedded_smaller_and_the_same_in_every_run(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grid.png")
    first, again = (page.embed("grid", "webp", tmp_path) for _ in range(2))
    assert first == again
    assert len(first) < len(page.embed("grid", "png", tmp_path)) / 2
    shown = Image.open(io.BytesIO(base64.b64decode(first.split(",")[1])))
    assert (shown.format, shown.size) == ("WEBP", (64, 64))


def test_pictures_of_few_colours_are_embedded_without_losses(tmp_path):
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[20:40, 10:50, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "grid.png")
    shown = Image.open(io.BytesIO(base64.b64decode(page.embed("grid", "webp", tmp_path).split(",")[1])))
    assert (np.asarray(shown.convert("RGB")) == pixels).all()


def test_numbers_have_their_units():
    assert [page.counted(n, "seed") for n in (1, 3)] == ["1 seed", "3 seeds"]


def test_only_settings_that_differ_are_deviations():
    assert page.differences({"a": 1, "b": 2}, {"a": 1, "b": 3}) == [("b", "2", "3")]


def test_half_table_has_standard_and_robust_accuracy_of_both_trainings():
    rows = [
        {"norm_train": "l2", "eps_train": trained, "natural_fraction": share, "norm_test": norm, "eps_test": eps}
        | {"accuracy": value, "seed": 0, "model": f"l2-{trained}"}
        for trained, shares in ((1.5, (0.0, 0.5)), (2.5, (0.0,)))
        for share in shares
        for norm, eps, value in (("none", 0.0, 0.9), ("l2", trained, 0.8), ("l2", 0.5, 0.1))
    ]
    table = page.half_table(pd.DataFrame(rows))
    assert table.training.tolist() == ["l2 eps 1.5"]
    assert sorted(table.drop(columns="training").iloc[0]) == ["80.00", "80.00", "90.00", "90.00"]


NUMBERS = pd.DataFrame(
    [
        {
            "norm_train": norm,
            "eps_train": eps,
            "norm": of,
            "quantity": quantity,
            "seed": seed,
            "mean": value + seed / 10,
        }
        for norm, eps in (("standard", 0.0), ("l2", 1.5))
        for seed in (0, 1)
        for of, quantity, value in (
            ("l2", "alignment", 2.0),
            ("", "edge_share", 0.4),
            ("l2", "judged_nearest", 0.3),
            ("l2", "path_robust", 0.9),
            ("", "nearest_right", 0.8),
            *([("l2", "radius", 1.0)] if eps else []),
        )
    ]
)


def test_shares_of_the_gradients_are_in_percent_and_distances_as_they_are():
    table = page.gradient_table(NUMBERS)
    assert table.to_dict("list") == {
        "training": ["standard", "l2 eps 1.5"],
        "alignment l2": ["2.050 (2.000 to 2.100)"] * 2,
        "radius l2": [pytest.approx(np.nan, nan_ok=True), "1.050 (1.000 to 1.100)"],
        "edge share": ["45.00 (40.00 to 50.00)"] * 2,
    }


def test_the_examples_have_their_own_table_and_the_judge_without_a_net_its_accuracy():
    table = page.examples_table(NUMBERS)
    assert list(table.columns) == ["training", "judged nearest l2"]
    assert table.iloc[1].tolist() == ["l2 eps 1.5", "35.00 (30.00 to 40.00)"]
    assert page.nearest_right(NUMBERS) == "85.0"


def test_formulas_become_mathml():
    assert "<math" in page.math(r"\frac{p}{1-p}")


def opinions() -> pd.DataFrame:
    rows = [
        {
            "attack": attack,
            "accuracy": accuracy,
            "model": "mnist-l2-1.5",
            "norm_train": "l2",
            "eps_train": 1.5,
            "seed": seed,
        }
        | {"natural_fraction": share, "norm_test": "l2", "eps_test": 1.5}
        for share, seed, values in ((0.0, 0, (0.9, 0.88, 0.87)), (0.0, 1, (0.8, 0.8, 0.8)), (0.5, 0, (0.7, 0.71, 0.7)))
        for attack, accuracy in zip(("pgd", "autoattack", "worst"), values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_opinions_stand_side_by_side():
    table = page.opinion_table(opinions())
    assert table.training.tolist() == ["l2 eps 1.5", "l2 eps 1.5, 50% natural"]
    assert table.ball.tolist() == ["l2 eps 1.5"] * 2
    assert table["PGD"].tolist() == ["85.00 (80.00 to 90.00)", "70.00"]
    assert table["either: pointwise worst case"].tolist() == ["83.50 (80.00 to 87.00)", "70.00"]


def test_what_the_rest_of_autoattack_found_alone_is_counted_over_the_models_that_met_it():
    table = opinions().assign(attacks="apgd-ce square", first_square=2)
    assert page.rest_text(table, ["square"]).startswith("; square as well on 3 of them, where they fooled 6")
    table.loc[table.seed == 1, "attacks"] = "apgd-ce"
    assert page.rest_text(table, ["square"]).startswith("; square as well on 2 of them, where they fooled 4")
    assert page.rest_text(table, ["fab-t"]) == ""


def test_how_far_pgd_was_off_is_its_distance_to_the_worst_case():
    assert sorted(page.beyond_pgd(opinions()).round(6)) == [0.0, 0.0, 0.03]


def test_masking_is_told_by_its_extremes():
    checks = pd.DataFrame(
        {
            "masking_rob_acc": [0.9, 0.8],
            "masking_zero_gradients": [0.0, 0.01],
            "masking_more_steps": [0.88, 0.8],
            "masking_more_restarts": [0.9, 0.79],
            "masking_scaled": [0.9, 0.81],
            "masking_huge_eps": [0.0, 0.02],
            "masking_transfer": [0.95, 0.9],
        }
    )
    text = page.masking_text(checks)
    for part in (
        "at most 1.0 % of",
        "at most 2.0 points more",
        "at most 1.0;",
        "hide at most 1.0",
        "is at most 2.0 %",
        "at least 5.0",
    ):
        assert part in text
    assert "another seed" not in page.masking_text(checks.drop(columns="masking_transfer"))


def test_a_comparison_is_in_signed_points_with_its_test():
    pairs = pd.DataFrame(
        [
            {"model": "a", "natural_fraction": share, "base": "b", "seed": 0, "kind": "std_acc", "n": 100}
            | {"only_ours": 3, "only_base": 5, "difference": -0.02, "low": -0.08, "high": 0.04, "p_value": 0.7265625}
            for share in (0.0, 0.5)
        ]
    )
    table = page.paired_table(pairs)
    assert table.model.tolist() == ["a", "a, 50% natural"]
    assert table.points.tolist() == ["-2.00 [-8.00, +4.00]"] * 2
    assert table["p (McNemar)"].tolist() == ["0.73"] * 2
