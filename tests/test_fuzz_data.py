"""Damaged and made-up data: whatever the bytes are, they are read, or refused with ValueError or OSError and a path."""

import gzip
import hashlib
import io
import random
import tarfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from robacc.datasets.cifar10 import ARCHIVE
from robacc.images import fetching, folders, picture
from robacc.sources import cifar10, mnist
from robacc.sources import restricted_imagenet as rin
from tests import images_made_up
from tests.images_made_up import DOG, imagenet, pack, put
from tests.test_cifar10 import SMALL, make_official

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32)
read = partial(folders.read, splits=("train", "test"), size=8, resize=True, n_workers=1, report=lambda text: None)


def damaged(content: bytes, seed: int) -> bytes:
    """Flip some bytes, cut the end, or append noise."""
    draw = random.Random(seed)
    kind = draw.choice(["flip", "cut", "extend", "cut in the middle"])
    place = draw.randrange(len(content))
    if kind == "cut":
        return content[:place]
    if kind == "extend":
        return content + draw.randbytes(1 + place % 600)
    if kind == "cut in the middle":
        return content[:place] + content[place + 1 + draw.randrange(20) :]
    changed = bytearray(content)
    for _ in range(draw.choice([1, 3, 50])):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def digits(n: int) -> dict[str, bytes]:
    """Files of MNIST's names and form with n black images."""
    images = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (n, 28, 28)) + bytes(n * 784)
    labels = b"\0\0\x08\x01" + n.to_bytes(4, "big") + bytes(n)
    return {name: images if "images" in name else labels for name in mnist.PLACES}


# fault: files of MNIST's names with other content
@few
@given(seeds, st.sampled_from(["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]))
def test_a_damaged_idx_file_is_refused_with_its_path(tmp_path, seed, name):
    files = digits(2)
    header = 16 if "images" in name else 8
    broken = damaged(files[name], seed)
    put(files | {name: broken}, tmp_path)
    if len(broken) == len(files[name]) and broken[:header] == files[name][:header]:
        assert len(mnist.read(tmp_path, "train")[0]) == 2  # only pixels or labels differ, for the hash to notice
    else:
        with pytest.raises(ValueError, match=str(tmp_path)):
            mnist.read(tmp_path, "train")


@few
@given(seeds, st.booleans())
def test_no_damaged_raw_file_is_ever_used(tmp_path, seed, packed):
    name, content = "train-labels-idx1-ubyte", digits(5)["train-labels-idx1-ubyte"]
    broken = damaged(gzip.compress(content, mtime=0) if packed else content, seed)
    folder = put({f"{name}.gz" if packed else name: broken}, tmp_path / f"{packed}{seed}")
    sha256 = {name: hashlib.sha256(content).hexdigest()}
    try:
        fetching.fetch(folder, sha256, {name: mnist.PLACES[name]}, {}, report=pytest.fail)
    except (OSError, ValueError) as error:
        assert str(folder) in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert (folder / name).read_bytes() == content  # noise in a part of the gzip format that nobody reads


@few
@given(seeds)
def test_a_damaged_archive_is_read_or_refused_with_its_path(tmp_path, seed):
    files = {name: images_made_up.picture(5) for name in ("train/cat/1.png", "test/cat/1.png", "test/cat/2.png")}
    plain = gzip.decompress(pack(files, tmp_path / "whole.tar.gz").read_bytes())
    broken = damaged(plain, seed)
    (tmp_path / "a.tar.gz").write_bytes(damaged(gzip.compress(plain), seed) if seed % 2 else broken)
    try:
        splits = read(tmp_path / "a.tar.gz", {"cat": 0})
    except ValueError as error:
        assert "a.tar.gz" in str(error) or "expected an image at " in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert {path for split in splits.values() for path in split.paths} <= files.keys()


parts = st.sampled_from(
    ["train", "val", DOG, "..", ".", "", "a.JPEG", ".a.JPEG", "C:", "\\..\\a.JPEG", "ü.JPEG", "x" * 300]
)
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
names = st.lists(parts, min_size=1, max_size=6).map("/".join)


@few
@given(st.lists(st.tuples(names, kinds, names), min_size=1, max_size=8))
@example([(f"train/{DOG}", tarfile.SYMTYPE, "../../../victim"), (f"train/{DOG}/a.JPEG", tarfile.REGTYPE, "")])
@example([(f"val/{DOG}/../../../a.JPEG", tarfile.REGTYPE, "")])
def test_no_archive_writes_outside_its_folder(tmp_path, members):
    files = imagenet()
    put({"archive/keep": b"", "victim/keep": b""}, tmp_path)
    archive, folder = tmp_path / "archive/a.tar.gz", tmp_path / "to/here/raw"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    try:
        rin.unpack(archive, folder)
    except (OSError, ValueError) as error:
        assert "a.tar.gz" in str(error) or str(folder) in str(error)
        assert len(str(error).splitlines()) == 1
    written = [file for file in tmp_path.rglob("*") if not file.is_dir() and folder not in file.parents]
    assert sorted(file.relative_to(tmp_path).as_posix() for file in written) == [
        "archive/a.tar.gz", "archive/keep", "victim/keep",
    ]  # fmt: skip
    assert not any(file.is_symlink() for file in folder.rglob("*"))
    for file in folder.rglob("*.JPEG"):
        assert file.parent.parent.parent == folder
        file.unlink()


@few
@given(seeds)
def test_a_damaged_image_is_read_or_refused(seed):
    form = random.Random(seed).choice(["JPEG", "PNG", "GIF", "BMP", "TIFF"])
    try:
        assert picture.rgb(damaged(images_made_up.picture(7, 20, 30, form), seed)).mode == "RGB"
    except picture.UnreadableError as error:
        assert str(error) == "a broken file" or str(error).startswith("more than ")


@few
@given(seeds)
def test_a_damaged_batch_of_cifar10_is_read_or_refused_with_its_path(tmp_path, seed):
    with tarfile.open(make_official(tmp_path / ARCHIVE)) as tar:
        whole = tar.extractfile("cifar-10-batches-py/data_batch_2").read()
    broken = make_official(tmp_path / ARCHIVE, {"data_batch_2": damaged(whole, seed)})
    try:
        splits = cifar10.read_official(broken, SMALL)
    except ValueError as error:
        assert str(tmp_path / ARCHIVE) in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert [len(x) for x, _ in splits.values()] == list(SMALL.values())


@few
@given(st.binary(max_size=200))
@example(b"a.JPEG\nb.JPEG\t\n\tn1\n")
def test_the_list_of_tiny_imagenet_may_say_anything(tmp_path, said):
    put({"train/n1/images/1.JPEG": b"", "val/images/1.JPEG": b""}, tmp_path)
    Path(tmp_path / "val/val_annotations.txt").write_bytes(b"1.JPEG\tn1\t0\n../../../x.JPEG\tn1\n" + said)
    for entry in folders.entries(tmp_path, ("train", "val"), {"n1"}):
        assert isinstance(entry.content, Path)
        assert entry.content.parent in (tmp_path / "val/images", tmp_path / "train/n1/images")
