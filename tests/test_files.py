"""Files: whole or not at all, and the same bytes for the same content."""

import json
import os
import stat
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from robacc.files import (
    must_exist,
    read_arrays,
    read_tensors,
    whole,
    write_arrays,
    write_csv,
    write_json,
    write_tensors,
)

WRITERS = {
    "json": lambda path: write_json({"b": 1.5, "a": [1, 2]}, path),
    "csv": lambda path: write_csv([{"eps": 0.1, "n": 3}, {"eps": 0.2, "n": 4}], path),
    "npz": lambda path: write_arrays({"x": np.arange(6.0), "y": np.arange(2)}, path),
    "safetensors": lambda path: write_tensors({"w": torch.ones(2, 3)}, path, {"b": 1, "a": 2}),
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def test_a_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), whole(tmp_path / "result.csv") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as partial:
        partial.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["result.csv"]
    assert path.read_text() == "old"


def test_the_partial_file_is_hidden_beside_the_result_and_named_after_the_process(tmp_path):
    path = tmp_path / "new" / "folder" / "result.csv"
    with whole(path) as partial:
        assert partial.parent == path.parent
        assert partial.name == f".{os.getpid()}.partial.result.csv"
        partial.write_text("all")
    assert [file.name for file in path.parent.iterdir()] == ["result.csv"]


@every_writer
def test_the_same_content_is_the_same_bytes(write, tmp_path):
    # trap 38
    for name in ("a", "b"):
        write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_archives_carry_no_time(tmp_path):
    # trap 38
    WRITERS["npz"](tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "arrays.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_without_a_number_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json({"std_acc": value}, tmp_path / "metrics.json")
    assert list(tmp_path.iterdir()) == []


def test_json_is_sorted_and_read_back(tmp_path):
    write_json({"b": {"d": 1, "c": 2}, "a": 0.1}, tmp_path / "metrics.json")
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text) == {"a": 0.1, "b": {"c": 2, "d": 1}}
    assert text.index('"a"') < text.index('"b"')
    assert text.index('"c"') < text.index('"d"')
    assert text.endswith("}\n")


@pytest.mark.parametrize("rows", [[], pd.DataFrame({"eps": []})])
def test_an_empty_table_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="expected at least one row for"):
        write_csv(rows, tmp_path / "table.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_read_back(tmp_path):
    rows = [{"norm": "l2", "eps": 0.1, "n": 3}, {"norm": "", "eps": 1e-05, "n": 4}]
    write_csv(rows, tmp_path / "table.csv")
    assert pd.read_csv(tmp_path / "table.csv", keep_default_na=False).to_dict("records") == rows


def test_arrays_are_read_back_without_pickle(tmp_path):
    # trap 40
    write_arrays({"x": np.arange(6.0).reshape(2, 3)}, tmp_path / "arrays.npz")
    arrays = read_arrays(tmp_path / "arrays.npz")
    assert list(arrays) == ["x"]
    np.testing.assert_array_equal(arrays["x"], np.arange(6.0).reshape(2, 3))
    np.savez(tmp_path / "pickled.npz", x=np.array([object()]))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "pickled.npz")


def test_tensors_are_read_back_whatever_their_layout(tmp_path):
    tensor = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    write_tensors({"w": tensor, "t": torch.arange(6).reshape(2, 3).T}, tmp_path / "t.safetensors", {"step": 3})
    tensors, metadata = read_tensors(tmp_path / "t.safetensors")
    assert torch.equal(tensors["w"], tensor)
    assert torch.equal(tensors["t"], torch.arange(6).reshape(2, 3).T)
    assert metadata == {"step": 3}
    assert stat.S_IMODE((tmp_path / "t.safetensors").stat().st_mode) == 0o644


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file at .*absent; run `dvc repro` to make it"):
        must_exist(tmp_path / "absent")
    assert must_exist(tmp_path) == tmp_path
