"""CIFAR-10: the official archive, the user's own tree, and the order in which sources are tried."""

import hashlib
import io
import pickle
import struct
import urllib.request
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from robacc.datasets.cifar10 import ARCHIVE, COUNTS, FACTS, URL
from robacc.images import folders
from robacc.sources import cifar10
from robacc.sources.cifar10 import read_official
from tests import images_made_up
from tests.images_made_up import pack, picture, put

get = partial(cifar10.get, n_workers=1, report=lambda text: None)
read_tree = partial(cifar10.read_tree, n_workers=1, report=lambda text: None)
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
SMALL = {"train": 20, "test": 4}  # images in the archives made here


class Python2(pickle._Pickler):
    """Writes byte strings as Python 2 did, which made the official archive."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, content: bytes | str) -> None:
        raw = content if isinstance(content, bytes) else content.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(content)

    dispatch[bytes] = dispatch[str] = save_string


def old_pickle(content: object) -> bytes:
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def pixels(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(256, size=(4, 3072), dtype=np.uint8)


def make_official(path: Path, replaced: dict[str, bytes] | None = None) -> Path:
    """A small archive in the official form: four images a batch, labelled batch, batch + 1, ..."""
    contents = {
        name: old_pickle({"data": pixels(i), "labels": [i, i + 1, i + 2, i + 3], "batch_label": name})
        for i, name in enumerate(BATCHES)
    }
    return pack({f"cifar-10-batches-py/{name}": raw for name, raw in (contents | (replaced or {})).items()}, path)


def make_tree(folder: Path, form: str = "PNG", n: int = 2) -> Path:
    return put(images_made_up.cifar10(form, n), folder)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    """No setting of the user's, and no network."""
    for name in ("ROBACC_CIFAR10", "ROBACC_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    original = urllib.request.urlopen

    def no_network(url: str, **settings: float) -> object:
        if url.startswith("file:"):
            return original(url, **settings)
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)


@pytest.fixture
def official(tmp_path, monkeypatch) -> Path:
    """A small archive that is taken for the official one: the real one has 170 MB, which no test can make."""
    (tmp_path / "mirror").mkdir()
    path = make_official(tmp_path / "mirror" / ARCHIVE)
    monkeypatch.setitem(cifar10.SHA256, ARCHIVE, hashlib.sha256(path.read_bytes()).hexdigest())
    for split, n in SMALL.items():
        monkeypatch.setitem(cifar10.COUNTS, split, n)
    return path


# ---- The official archive -----------------------------------------------------------------------------------------


def test_the_archive_is_read_in_its_order(tmp_path):
    splits = read_official(make_official(tmp_path / ARCHIVE), SMALL)
    x, y = splits["train"]
    assert (x.dtype, x.shape, y.dtype) == (torch.uint8, (20, 3, 32, 32), torch.int64)
    assert y.tolist() == [i + k for i in range(5) for k in range(4)]
    np.testing.assert_array_equal(x.flatten(1).numpy(), np.concatenate([pixels(i) for i in range(5)]))
    x, y = splits["test"]
    assert y.tolist() == [5, 6, 7, 8]
    np.testing.assert_array_equal(x.flatten(1).numpy(), pixels(5))


def test_a_pickle_that_calls_something_is_refused_and_not_executed(tmp_path):
    # trap 40
    victim = tmp_path / "victim"
    attack = f"cos\nmkdir\n(S'{victim}'\ntR.".encode()
    pickle.loads(attack)
    assert victim.exists()  # it is an attack
    victim.rmdir()
    with pytest.raises(
        ValueError, match=r"expected arrays and lists in .*/data_batch_3, got os.mkdir; archive refused"
    ):
        read_official(make_official(tmp_path / ARCHIVE, {"data_batch_3": attack}), SMALL)
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"page", old_pickle([1]), old_pickle({"data": pixels(0)[:, 1:], "labels": [0]}), pickle.dumps({"data": 1})],
)
def test_a_broken_batch_is_named(content, tmp_path):
    with pytest.raises(ValueError, match=rf"in {tmp_path / ARCHIVE}/data_batch_3, got "):
        read_official(make_official(tmp_path / ARCHIVE, {"data_batch_3": content}), SMALL)


def test_missing_images_are_noticed(tmp_path):
    with pytest.raises(ValueError, match=r"expected {'train': 50000, 'test': 10000} images in .*, got {'train': 20"):
        read_official(make_official(tmp_path / ARCHIVE), COUNTS)


# ---- The user's tree ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_labels_are_the_official_ones_and_the_kind_is_said(form, tmp_path):
    kind, splits = read_tree(make_tree(tmp_path, form))
    assert kind == f"user's {form} tree"
    for x, y in splits.values():
        assert torch.bincount(y).tolist() == [2] * 10
        assert (x[:, 0, 16, 16] - 20.0 * y).abs().max() <= 4  # JPEG is lossy


def test_one_jpeg_makes_it_a_jpeg_tree(tmp_path):
    kind, splits = read_tree(put({"test/cat/9.JPEG": picture(0, 32, 32, "JPEG")}, make_tree(tmp_path)))
    assert kind == "user's JPEG tree"
    assert torch.bincount(splits["test"][1]).tolist() == [2, 2, 2, 3, 2, 2, 2, 2, 2, 2]  # need not be balanced


def test_a_missing_and_an_empty_class_are_named(tmp_path):
    make_tree(tmp_path)
    (tmp_path / "test" / "ship").rename(tmp_path / "test" / "boat")
    for file in (tmp_path / "train" / "cat").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"expected images of all ten classes in .*, got none in train/cat, test/ship"):
        read_tree(tmp_path)


def test_real_images(archive, tmp_path):
    """Forty images of each class of the JPEG copy, half of them as training images: labels and colours."""
    count, some = dict.fromkeys(FACTS.classes, 0), dict[str, bytes]()
    for entry in islice(folders.entries(archive("cifar10-jpeg.tar.gz"), ("test",), FACTS.classes), 10_000):
        count[entry.folder] += 1
        if (n := count[entry.folder]) <= 40:
            some[f"some/{'train' if n <= 20 else 'test'}/{entry.folder}/{n}.jpg"] = entry.content
    assert set(count.values()) == {1000}
    pack(some, tmp_path / "some.tar.gz")
    kind, splits = read_tree(tmp_path / "some.tar.gz")
    assert kind == "user's JPEG tree"
    for x, y in splits.values():
        assert torch.bincount(y).tolist() == [20] * 10
        means = x.float().mean((0, 2, 3)) / 255
        np.testing.assert_allclose(means, [0.491, 0.482, 0.447], atol=0.05)
        edge = x[:, 2, :3].float().mean((1, 2))  # blue at the top: sky over ships and planes, grass over frogs
        assert edge[(y == 0) | (y == 8)].mean() > edge[y == 6].mean() + 30


# ---- Sources ------------------------------------------------------------------------------------------------------


def test_the_archive_already_there_comes_before_images_and_the_download(official, tmp_path):
    make_tree(official.parent)
    name, kind, splits = get(official.parent)
    assert (name, kind) == (f"files in {official.parent}", "official archive")
    assert len(splits["train"][1]) == 20


def test_images_already_there_are_next(tmp_path):
    name, kind, splits = get(make_tree(tmp_path / "raw"))
    assert (name, kind) == (f"images in {tmp_path / 'raw'}", "user's PNG tree")
    assert len(splits["train"][1]) == 20


# fault: a source that the user named is dropped without a word
def test_the_users_tree_comes_before_everything(official, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBACC_CIFAR10", str(make_tree(tmp_path / "tree")))
    monkeypatch.setenv("ROBACC_MIRROR", str(official.parent))
    for raw in (tmp_path / "raw", official.parent):
        assert get(raw)[:2] == (f"ROBACC_CIFAR10={tmp_path / 'tree'}", "user's PNG tree")


def test_the_mirror_is_used_and_its_archive_kept(official, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBACC_MIRROR", str(official.parent))
    name, kind, _ = get(tmp_path / "raw")
    assert (name, kind) == (f"ROBACC_MIRROR={official.parent}", "official archive")
    monkeypatch.delenv("ROBACC_MIRROR")
    assert get(tmp_path / "raw")[0] == f"files in {tmp_path / 'raw'}"


# fault: a source that the user named is dropped without a word
def test_a_source_of_the_user_that_cannot_be_used_ends_the_run(official, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBACC_CIFAR10", str(tmp_path / "nowhere"))
    with pytest.raises(
        OSError, match=r"^ROBACC_CIFAR10=.*nowhere: expected a folder or archive at .*; correct it or un"
    ):
        get(official.parent)
    monkeypatch.delenv("ROBACC_CIFAR10")
    put({"notes.txt": b""}, tmp_path / "raw")
    with pytest.raises(ValueError, match=r"^images in .*raw: expected folders train and test in .*; correct or remove"):
        get(tmp_path / "raw")


def test_an_archive_with_another_hash_is_refused(tmp_path, monkeypatch):
    # trap 40
    (tmp_path / "mirror").mkdir()
    make_official(tmp_path / "mirror" / ARCHIVE)
    for mirror in (tmp_path / "mirror", None):
        monkeypatch.setenv("ROBACC_MIRROR", str(mirror or ""))
        with pytest.raises(
            ValueError, match=rf"^(files in|ROBACC_MIRROR=).*: expected {ARCHIVE} with SHA-256 .*, got "
        ):
            get(tmp_path / "raw" if mirror else tmp_path / "mirror")
    assert not (tmp_path / "raw").exists()


# fault: no network: which sources were tried, and how to place the files by hand
def test_everything_that_was_tried_is_in_one_line(tmp_path):
    with pytest.raises(OSError, match="expected cifar") as caught:
        get(tmp_path / "raw")
    (line,) = str(caught.value).splitlines()
    assert f"got: files in {tmp_path / 'raw'}: expected {ARCHIVE} in " in line
    assert f"; download from {URL}: no network; put the files into {tmp_path / 'raw'} by hand" in line
    assert "or ROBACC_CIFAR10 to a folder" in line
