"""The words and tables of the report."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robacc.files import write_tensors
from robacc.report import page
from robacc.sources import cifar10, restricted_imagenet

ROOT = Path(__file__).parent.parent
MEASURE = {"name": "gain", "value": 0.012, "low": 0.01, "high": 0.014, "n": 10000, "seeds": 3, "is_difference": True}
READING = {"norm": "l2", "place": "", "verdict": "reproduced"}
CLAIM = {"id": "C1", "statement": "a |b|", "verdict": "l2: reproduced", "readings": [READING], "measures": [MEASURE]}
CLAIM |= {"remark": "", "published": []}


def test_a_difference_is_in_signed_points_and_a_share_in_percent():
    assert page.interval(MEASURE) == "gain: +1.20 points [+1.00, +1.40]"
    assert page.interval({**MEASURE, "is_difference": False}) == "gain: 1.20 % [1.00, 1.40]"


def test_the_interval_with_random_images_stands_behind_the_one_that_decides():
    measure = {**MEASURE, "both": [0.009, 0.015]}
    assert page.interval(measure) == "gain: +1.20 points [+1.00, +1.40] (images random too: [+0.90, +1.50])"


def test_a_single_seed_has_no_interval():
    assert page.interval({**MEASURE, "low": -1.0, "high": 1.0}).endswith("[one seed, no interval]")


def test_the_sample_is_said_once_where_all_measures_share_it():
    assert page.measured(CLAIM) == [page.interval(MEASURE), "(n = 10,000, 3 seeds)"]
    two = {**CLAIM, "measures": [MEASURE, {**MEASURE, "n": 0}]}
    assert [line.rsplit("(", 1)[1] for line in page.measured(two)] == ["n = 10,000, 3 seeds)", "exact)"]


def test_published_numbers_stand_behind_the_remark():
    lines = page.measured({**CLAIM, "remark": "as expected", "published": ["+0.09 (A)", "+0.10 (B)"]})
    assert lines[-3:] == ["as expected", "Published: +0.09 (A)", "Published: +0.10 (B)"]


def test_verdicts_are_counted_by_place():
    two = [READING, {**READING, "verdict": "undecided"}, {**READING, "verdict": "undecided"}]
    text = page.count_verdicts([{**CLAIM, "readings": two}, CLAIM])
    assert text == "Verdicts on 2 claims, by norm and place: 2 reproduced, 2 undecided"
    assert page.count_verdicts([{**CLAIM, "readings": []}]) == "Verdicts on 1 claim, by norm and place: not tested"


def test_each_word_of_a_verdict_has_its_colour():
    html = page.coloured("l2: equal at 1.5, not tested at 2.5; linf: reproduced")
    assert html == (
        'l2: <span class="equal">equal</span> at 1.5, <span class="not-tested">not tested</span> at 2.5; '
        'linf: <span class="reproduced">reproduced</span>'
    )


# fault: a class named <script> in a folder of images
def test_what_a_result_file_says_is_escaped():
    table = page.html_table(pd.DataFrame({"<i>": ["<script>alert(1)</script>"]}), 'a "name"')
    for html in (table, page.coloured("reproduced <script>")):
        assert "<script" not in html
        assert "&lt;script&gt;" in html
    assert "<i>" not in table
    assert 'aria-label="a &#34;name&#34;"' in table


def test_the_measures_are_a_table_without_empty_columns():
    table = page.measure_table(CLAIM)
    assert list(table) == ["measure", "value", "interval", "n", "seeds"]
    assert table.iloc[0].tolist() == ["gain", "+1.20 points", "[+1.00, +1.40]", "10,000", "3"]
    assert "images random too" in page.measure_table({**CLAIM, "measures": [{**MEASURE, "both": [0.009, 0.015]}]})


def test_seeds_are_counted_by_ball():
    table = pd.DataFrame({"model": [*"aaab"], "seed": [5, 6, 6, 5], "n_train": [100, 100, 300, 300]})
    assert page.seeds_text(table) == "1 to 2 seeds a ball"
    assert page.seeds_text(table[table.model == "a"]) == "2 seeds"
    assert page.seeds_by_size(table) == "100: 2, 300: 1"


def test_the_summary_is_a_table_of_four_columns():
    row = page.summary([CLAIM], {}).splitlines()[-1]
    assert row.replace("\\|", "").count("|") == 5
    assert "a \\|b\\|" in row


def test_the_summary_has_a_section_for_each_further_data_set():
    other = {**CLAIM, "readings": [{**READING, "verdict": "opposite"}]}
    first, second = page.summary([CLAIM], {"CIFAR-10": [other]}).split("\n## CIFAR-10\n")
    assert "1 reproduced" in first
    assert "1 opposite" in second


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
        write_tensors({"x": torch.zeros(1)}, tmp_path / f"{split}.safetensors", {"sha256": "0", **about})
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
        | {"accuracy": value, "seed": 0, "model": f"l2-{trained}", "images": images}
        for trained, shares in ((1.5, (0.0, 0.5)), (2.5, (0.0,)))
        for share in shares
        for norm, eps, images, value in (
            ("none", 0.0, "all", 0.9),
            ("none", 0.0, "sample", 0.85),
            ("l2", trained, "sample", 0.8),
            ("l2", 0.5, "sample", 0.1),
        )
    ]
    rows += [{**rows[0], "seed": 1, "accuracy": 0.1}]  # a seed that was trained in one way only
    others = pd.read_csv(ROOT / "data/published.csv")
    table = page.half_table(pd.DataFrame(rows), others, "mnist")
    assert table.training.tolist() == ["l2 eps 1.5"]
    kinds = {"standard accuracy, all images": "90.00", "standard accuracy, same images": "85.00"}
    expected = {**kinds, "robust accuracy": "80.00"}
    expected = {f"{kind}, {share} natural": value for kind, value in expected.items() for share in ("0%", "50%")}
    expected |= {f"the paper, {share} natural (standard / robust)": "" for share in ("0%", "50%")}
    assert table.iloc[0].drop("training").to_dict() == expected
    own = others.source.str.startswith("Tsipras") & (others.natural_fraction == 0.5)
    others.loc[own, ["std_acc", "rob_acc", "read_at_source"]] = [91.0, 57.5, "yes"]
    filled = page.half_table(pd.DataFrame(rows), others, "mnist")
    assert filled["the paper, 50% natural (standard / robust)"].tolist() == ["91.00 / 57.50"]
    assert filled["the paper, 0% natural (standard / robust)"].tolist() == [""]


def test_which_images_a_number_is_of_is_said_in_words():
    sample = "2,000 of the 10,000 test images, drawn at random by class (seed 3), the same for every model"
    assert page.drawn(2000, 10000, 3) == sample
    assert page.drawn(10000, 10000, 3) == page.drawn(12000, 10000, 3) == "all 10,000 test images"


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
            ("none", "edge_share", 0.4),
            ("l2", "judged_nearest", 0.3),
            ("l2", "path_robust", 0.9),
            ("none", "nearest_right", 0.8),
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
            "masking_huge_eps": [0.0, 0.02],
            "masking_transfer": [0.95, 0.9],
            "masking_gradient_noise": [0.0, 0.003],
            "masking_promise": [0.93, 0.88],
            "masking_smoothed": [0.87, 0.8],
            "masking_square": [0.9, 0.76],
            "note": ["", None],
        }
    )
    text = page.masking_text(checks)
    for part in (
        "at most 1.0 % of",
        "at most 2.0 points more",
        "at most 1.0;",
        "is at most 2.0 %",
        "at least 5.0",
        "differ by at most 0.3 %",
        "brings at least 88 %",
        "nearby at most 3.0;",
        "without gradients at most 4.0;",
    ):
        assert part in text
    assert "another seed" not in page.masking_text(checks.drop(columns="masking_transfer"))


def collapsed() -> pd.DataFrame:
    """Return the checks of three models, of which the second answers one class."""
    note = "answers class 3 for 98% of the images"
    return pd.DataFrame(
        {
            "model": ["a", "b", "b"],
            "natural_fraction": [0.0, 0.0, 0.5],
            "seed": [0, 1, 2],
            "norm": "linf",
            "note": [None, note, ""],
            **{f"masking_{name}": [0.5, None, 0.5] for name in ("zero_gradients", "rob_acc", "more_steps", "promise")},
            **{f"masking_{name}": [0.5, None, 0.5] for name in ("more_restarts", "scaled", "huge_eps", "smoothed")},
            **{f"masking_{name}": [0.5, None, 0.5] for name in ("gradient_noise", "square")},
            "masking_transfer": None,
        }
    )


def test_a_model_of_one_class_is_marked_and_its_masking_is_not_told():
    checks = collapsed()
    notes = page.notes(checks)
    assert notes.to_numpy().tolist() == [["b", 1, "linf", "answers class 3 for 98% of the images"]]
    assert "nan" not in page.masking_text(checks)
    assert "another seed" not in page.masking_text(checks)
    assert page.masking_text(checks[checks.seed == 1].drop(columns="masking_rob_acc")) == "none could be checked"
    rows = {
        "natural_fraction": 0.0,
        "seed": 0,
        "norm_train": "linf",
        "norm_test": "none",
        "eps_test": 0.0,
        "images": "all",
    }
    accuracy = pd.DataFrame(
        [{**rows, "model": m, "eps_train": e, "accuracy": 0.1} for m, e in (("a", 0.1), ("b", 0.3))]
    )
    assert page.robust_table(accuracy, checks).training.tolist() == ["linf eps 0.1", "linf eps 0.3 *"]
    half = checks.assign(natural_fraction=[0.0, 0.5, 0.0])
    assert page.robust_table(accuracy, half).training.tolist() == ["linf eps 0.1", "linf eps 0.3"]


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
