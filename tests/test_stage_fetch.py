"""The stage `fetch` on made-up trees: what it writes, where, and what it says about its source."""

import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from robacc import params
from robacc.files import read_tensors, write_text
from robacc.images import loading
from stages import cli, fetch, identity
from tests.images_made_up import DOG, FROG, TABBY, cifar10, imagenet, pack, put


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder as the project, one worker."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("ROBACC_WORKERS", "1")


def test_cifar10_says_what_it_was_made_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROBACC_CIFAR10", str(put(cifar10("JPEG"), tmp_path / "mine")))
    fetch.main(Namespace(dataset="cifar10"))
    for split in ("train", "test"):
        images = loading.load(Path(f"data/cifar10/{split}.safetensors"))
        assert images.x.shape == (20, 3, 32, 32)
        assert images.source == "user's JPEG tree"
    assert f"cifar10 from ROBACC_CIFAR10={tmp_path / 'mine'}: user's JPEG tree" in capsys.readouterr().out
    # The user's path is in no file: the same images give the same file on another machine.
    assert str(tmp_path) not in json.dumps(read_tensors(Path("data/cifar10/test.safetensors"))[1])


def test_restricted_imagenet_64_names_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROBACC_IMAGENET", str(pack(imagenet(), tmp_path / "mine.tar.gz")))
    fetch.main(Namespace(dataset="restricted_imagenet_64"))
    images = loading.load(Path("data/restricted_imagenet_64/test.safetensors"))
    assert images.x.shape == (6, 3, 64, 64)
    assert sorted(images.y.tolist()) == [0, 0, 1, 1, 2, 2]
    assert (images.source, len(images.missing)) == ("user's ImageNet", 200)
    assert f"200 classes are not in it: {' '.join(images.missing)}" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_restricted_imagenet_writes_an_index_that_opens(form, tmp_path, monkeypatch):
    source = put(imagenet(), tmp_path / "mine") if form == "folder" else pack(imagenet(), tmp_path / "mine.tar.gz")
    monkeypatch.setenv("ROBACC_IMAGENET", str(source))
    fetch.main(Namespace(dataset="restricted_imagenet"))
    images = loading.load(Path("data/restricted_imagenet/train.safetensors"))
    x, y = images.first()
    assert x.shape == (6, 3, 224, 224)
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2]
    assert not {DOG, TABBY, FROG} & set(images.missing)
    assert Path("data/incoming/restricted_imagenet").is_symlink() == (form == "folder")
    assert str(tmp_path).encode() not in Path("data/restricted_imagenet/train.safetensors").read_bytes()


def test_a_setting_that_is_missing_is_one_line(monkeypatch):
    for name in ("ROBACC_IMAGENET", "ROBACC_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(Path(__file__).parent.parent / "params.yaml", "params.yaml")
    code = identity.stage_hash("fetch", "restricted_imagenet_64", params.load())
    write_text(code, identity.FOLDER / "fetch-restricted_imagenet_64")
    monkeypatch.setattr(sys, "argv", ["fetch.py", "--dataset", "restricted_imagenet_64"])
    with pytest.raises(SystemExit, match=r"^fetch: expected ROBACC_IMAGENET to name a folder or .tar.gz archive"):
        cli.run(fetch.main, cli.parser(None, "dataset"))
