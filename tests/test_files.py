"""Files: whole or not at all, and the same bytes for the same content."""

import errno
import json
import os
import stat
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from robacc.files import (
    must_exist,
    read_arrays,
    read_tensors,
    tensors_in,
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


def damaged(content: bytes) -> dict[str, bytes]:
    """Return the ways in which a file comes to grief."""
    flipped, middle = bytearray(content), len(content) - 3
    flipped[middle] ^= 1
    return {"empty": b"", "cut": content[:-5], "longer": content + b"x", "one bit": bytes(flipped), "zeros": bytes(300)}


# fault: a bit flipped in a finished file; a file that is empty, cut, or a byte longer
@pytest.mark.parametrize("how", ["empty", "cut", "longer", "one bit", "zeros"])
def test_a_damaged_file_is_refused_by_name(how, tmp_path):
    # trap 40
    path = tmp_path / "model.safetensors"
    write_tensors({"w": torch.rand(4, 3), "n": torch.tensor(7)}, path, {"arch": "narrow_cnn"})
    path.write_bytes(damaged(path.read_bytes())[how])
    with pytest.raises(ValueError, match=r"expected .*model.safetensors as it was written, got damaged or other"):
        read_tensors(path)


@pytest.mark.parametrize("change", ["metadata", "dtype", "shape", "name"])
def test_all_that_a_file_says_is_under_its_hash(change, tmp_path):
    path, (tensors, metadata) = tmp_path / "t.safetensors", ({"w": torch.ones(2, 3)}, {"step": 3})
    write_tensors(tensors, path, metadata)
    with safe_open(path, "pt") as file:
        said = json.loads(file.metadata()["json"])
    if change == "metadata":
        said["metadata"]["step"] = 4
    other = {
        "metadata": tensors,
        "dtype": {"w": tensors["w"].view(torch.int32)},
        "shape": {"w": tensors["w"].reshape(3, 2)},
        "name": {"v": tensors["w"]},
    }
    save_file(other[change], path, metadata={"json": json.dumps(said)})
    with pytest.raises(ValueError, match="got damaged or other"):
        read_tensors(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"json": "{"}, {"json": "[]"}, {"json": "{}"}])
def test_a_file_of_another_program_is_refused(metadata, tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "theirs.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"theirs\.safetensors as it was written, got damaged or other content"):
        read_tensors(tmp_path / "theirs.safetensors")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


# fault: fuzz of safetensors metadata
@given(JSON | st.fixed_dictionaries({"content": JSON, "metadata": JSON}))
def test_metadata_of_any_form_is_refused_by_name(said):
    content = save({"w": torch.ones(2)}, metadata={"json": json.dumps(said)})
    with pytest.raises(ValueError, match=r"^expected some\.model as it was written, got damaged or other content"):
        tensors_in(content, Path("some.model"))


# fault: fuzz of damaged files
@given(st.data())
def test_bytes_changed_anywhere_are_refused_by_name(data):
    whole = written()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(begin + 9, len(whole))))
    content = whole[:begin] + data.draw(st.binary(max_size=9)) + whole[end:]
    assume(content != whole)
    with pytest.raises(ValueError, match=r"^expected some\.model as it was written, got damaged or other content"):
        tensors_in(content, Path("some.model"))


@cache
def written() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some.model"
        write_tensors({"w": torch.ones(4, 3), "n": torch.tensor(7)}, path, {"arch": "narrow_cnn"})
        return path.read_bytes()


@every_writer
def test_a_full_disk_is_one_line_with_the_path(write, tmp_path, monkeypatch):
    # fault: checkpoints on a full disk
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "result").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"^cannot write .*result: No space left on device; nothing is lost"):
        write(tmp_path / "result")
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
    assert (tmp_path / "result").read_text() == "old"


def test_a_full_disk_while_tensors_are_written_names_the_path(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"^cannot write .*result: I/O error: No space left on device"):
        WRITERS["safetensors"](tmp_path / "result")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^cannot write .*file/result: "):
        write_json({}, tmp_path / "file" / "result")


def test_an_error_of_another_file_keeps_its_words(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"), whole(tmp_path / "result"):
        (tmp_path / "absent" / "input").read_text()


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    # fault: a power cut leaves an empty file
    order, sync, move = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("name"), move(*paths)))
    write_json({}, tmp_path / "result")
    assert order == ["sync", "name"]


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a file at .*absent; run `dvc repro` to make it"):
        must_exist(tmp_path / "absent")
    assert must_exist(tmp_path) == tmp_path
