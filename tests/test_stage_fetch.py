"""The stage `fetch` on made-up trees: what it writes, where, and what it says about its source."""

import json
import sys
from pathlib import Path

import pytest

from robacc import data
from robacc.files import read_tensors
from stages import cli, fetch
from tests.test_cifar10 import make_tree
from tests.test_image_trees import pack, put
from tests.test_restricted_imagenet import DOG, FROG, TABBY, copy_of_imagenet


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder as the project, one worker."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("ROBACC_WORKERS", "1")


def test_cifar10_says_what_it_was_made_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROBACC_CIFAR10", str(make_tree(tmp_path / "mine", ".jpg")))
    fetch.cifar10(Path("data/cifar10"), None)
    for split in ("train", "test"):
        images = data.load(Path(f"data/cifar10/{split}.safetensors"))
        assert images.x.shape == (20, 3, 32, 32)
        assert images.source == "user's JPEG tree"
    assert f"cifar10 from ROBACC_CIFAR10={tmp_path / 'mine'}: user's JPEG tree" in capsys.readouterr().out
    # The user's path is in no file: the same images give the same file on another machine.
    assert str(tmp_path) not in json.dumps(read_tensors(Path("data/cifar10/test.safetensors"))[1])


def test_restricted_imagenet_64_names_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROBACC_IMAGENET", str(pack(copy_of_imagenet(), tmp_path / "mine.tar.gz")))
    fetch.restricted_imagenet_64(Path("data/restricted_imagenet_64"), [DOG, TABBY, "n02085782"])
    images = data.load(Path("data/restricted_imagenet_64/test.safetensors"))
    assert images.x.shape == (4, 3, 64, 64)
    assert sorted(images.y.tolist()) == [0, 0, 1, 1]
    assert (images.source, images.missing) == ("user's ImageNet", ("n02085782",))
    assert "1 classes are not in it: n02085782" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_restricted_imagenet_writes_an_index_that_opens(form, tmp_path, monkeypatch):
    files = copy_of_imagenet()
    source = put(files, tmp_path / "mine") if form == "folder" else pack(files, tmp_path / "mine.tar.gz")
    monkeypatch.setenv("ROBACC_IMAGENET", str(source))
    fetch.restricted_imagenet(Path("data/restricted_imagenet"), None)
    images = data.load(Path("data/restricted_imagenet/train.safetensors"))
    x, y = images.first()
    assert x.shape == (6, 3, 224, 224)
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2]
    assert not {DOG, TABBY, FROG} & set(images.missing)
    assert (data.RAW / "restricted_imagenet").is_symlink() == (form == "folder")
    assert str(tmp_path).encode() not in Path("data/restricted_imagenet/train.safetensors").read_bytes()


def test_a_setting_that_is_missing_is_one_line(monkeypatch):
    monkeypatch.delenv("ROBACC_IMAGENET", raising=False)
    monkeypatch.delenv("ROBACC_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--dataset", "restricted_imagenet_64"])
    arguments = cli.parser(None, "dataset")
    with pytest.raises(SystemExit, match=r"^fetch: expected ROBACC_IMAGENET to name a folder or .tar.gz archive"):
        cli.run(lambda args: fetch.MAKERS[args.dataset](Path("data"), None), arguments)
