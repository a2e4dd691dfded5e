"""Restricted ImageNet: the table of classes, and what is found in a user's copy of ImageNet."""

import re
import zipfile
from contextlib import nullcontext

import pytest
import torch
from torchvision.models._meta import _IMAGENET_CATEGORIES

from robacc.datasets.restricted_imagenet import INDEX, LABELS, SUPER_CLASSES, WNIDS
from robacc.images.batches import nested_subset
from robacc.images.folders import entries
from robacc.sources import restricted_imagenet as rin
from tests.images_made_up import DOG, FROG, TABBY, TENCH, imagenet, pack, put

# ---- The table ----------------------------------------------------------------------------------------------------


def test_there_are_203_classes_in_nine_super_classes():
    assert len(WNIDS) == len(set(WNIDS)) == 203
    assert list(WNIDS) == sorted(WNIDS)
    counts = torch.bincount(torch.tensor(list(LABELS.values()))).tolist()
    assert dict(zip(SUPER_CLASSES, counts, strict=True)) == {
        "dog": 118, "cat": 5, "frog": 3, "turtle": 5, "bird": 21, "primate": 18, "fish": 9, "crab": 4, "insect": 20,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wnid", "index", "name"),
    [
        (DOG, 151, "dog"),
        ("n02113978", 268, "dog"),
        (TABBY, 281, "cat"),
        (FROG, 30, "frog"),
        ("n01664065", 33, "turtle"),
        ("n01855672", 99, "bird"),
        ("n02480495", 365, "primate"),
        ("n02655020", 397, "fish"),
        ("n01978287", 118, "crab"),
        ("n02165105", 300, "insect"),
    ],
)
def test_classes_that_everybody_knows(wnid, index, name):
    assert INDEX[wnid] == index
    assert list(SUPER_CLASSES)[LABELS[wnid]] == name


@pytest.mark.parametrize("wnid", [TENCH, "n02124623", "n02129165"])
def test_tench_cougar_and_lion_are_not_in_it(wnid):
    assert wnid not in LABELS


def test_the_names_of_real_files_are_torchvisions_names_at_our_index(archive):
    """An independent table: the files of the sample carry the class's name, torchvision lists names by index."""

    def words(text: str) -> str:
        return re.sub(r"[^a-z]", "", text.lower())

    found = {entry.folder: entry.path for entry in entries(archive("imagenet-sample.tar.gz"), ["val"], LABELS)}
    assert found.keys() == set(WNIDS)
    for wnid, path in found.items():
        name = path.split("/")[2].removeprefix(f"{wnid}_").removesuffix(".JPEG")
        assert words(name) == words(_IMAGENET_CATEGORIES[INDEX[wnid]]), wnid


def test_a_training_set_of_the_balanced_size_is_balanced():
    y = [0] * 50 + [1] * 7 + [4] * 12
    assert rin.balanced_size(y) == 21
    labels = torch.tensor(y)
    assert torch.bincount(labels[nested_subset(labels, 21, seed=3)]).tolist() == [7, 7, 0, 0, 7]


# ---- The user's copy ----------------------------------------------------------------------------------------------


def small(source):
    return rin.small_images(source, size=64, n_workers=1, report=lambda text: None)


def test_small_images_have_the_labels_of_their_folders(tmp_path):
    splits = small(pack({f"top/{name}": raw for name, raw in imagenet().items()}, tmp_path / "a.tar.gz"))
    assert splits.keys() == {"train", "test"}
    for ours, theirs in rin.SPLITS.items():
        x, y, paths = splits[ours]
        assert (x.dtype, x.shape) == (torch.uint8, (6, 3, 64, 64))
        assert y.tolist() == [{DOG: 0, TABBY: 1, FROG: 2}[path.split("/")[1]] for path in paths]
        assert {path.split("/")[0] for path in paths} == {theirs}


def test_classes_that_are_not_there_are_named(tmp_path):
    paths = small(put(imagenet(), tmp_path))["test"].paths
    absent = rin.missing(paths)
    assert absent == sorted(LABELS.keys() - {DOG, TABBY, FROG})
    line = rin.summary("test", [0, 0, 1, 1, 2, 2], absent[:2])
    assert line.startswith("test: 6 images (dog 2, cat 2, frog 2, turtle 0,")
    assert line.endswith(f"balanced up to 6; 2 classes are not in it: {absent[0]} {absent[1]}")
    assert rin.summary("test", [0], []).endswith("no class is missing")


@pytest.mark.parametrize("top", ["", "ILSVRC/CLS-LOC/"])
def test_the_index_lists_files_and_copies_nothing(top, tmp_path, monkeypatch):
    source = put({f"{top}{name}": raw for name, raw in imagenet().items()}, tmp_path / "mine")
    monkeypatch.setenv("ROBACC_IMAGENET", str(source))
    root = rin.provide(tmp_path / "link")
    assert rin.provide(tmp_path / "link") == root == tmp_path / "link"  # and again
    table = rin.index(root, "test")
    assert sorted(table["path"]) == sorted(name for name in imagenet() if name[:3] == "val" and TENCH not in name)
    for path, wnid, label, n_bytes in zip(*(table[key] for key in ("path", "wnid", "label", "bytes")), strict=True):
        assert path.split("/")[1] == wnid
        assert label == LABELS[wnid]
        assert n_bytes == len((root / path).read_bytes())
    assert len(table["missing"]) == 200
    assert table["source"] == "user's ImageNet"


def test_an_archive_is_unpacked_once_and_only_what_is_needed(tmp_path, monkeypatch):
    archive = pack(imagenet(), tmp_path / "a.tar.gz")
    monkeypatch.setenv("ROBACC_IMAGENET", str(archive))
    (tmp_path / "user").mkdir()
    (tmp_path / "raw").symlink_to(tmp_path / "user")  # of an earlier setting
    root = rin.provide(tmp_path / "raw")
    assert not any((tmp_path / "user").iterdir())
    files = {file.relative_to(root).as_posix(): file for file in root.rglob("*.*")}
    assert files.keys() == {name for name in imagenet() if TENCH not in name}
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    rin.provide(tmp_path / "raw")
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == before


# fault: a source that the user named is dropped without a word
@pytest.mark.parametrize("changed", ["content", "extra"])
def test_images_of_an_earlier_archive_are_not_mixed_in(changed, tmp_path, monkeypatch):
    first, second = imagenet(), imagenet()
    name = next(name for name in first if TENCH not in name)
    if changed == "content":
        second[name] = bytes(len(first[name]))
    else:
        del second[name]
    for files in (first, second):
        monkeypatch.setenv("ROBACC_IMAGENET", str(pack(files, tmp_path / "a.tar.gz")))
        with nullcontext() if files is first else pytest.raises(ValueError, match=r"another file, .*; move .*raw away"):
            rin.provide(tmp_path / "raw")
    assert (tmp_path / "raw" / name).read_bytes() == first[name]


# fault: Restricted ImageNet with flat val/
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_flat_val_is_refused_before_anything_is_decoded(form, tmp_path, monkeypatch):
    flat = {f"val/ILSVRC2012_val_0000000{i}.JPEG": b"never read" for i in range(3)}
    train = {name: b"never read" for name in imagenet() if name.startswith("train")}
    files = flat | train
    source = put(files, tmp_path / "mine") if form == "folder" else pack(files, tmp_path / "mine.tar.gz")
    monkeypatch.setenv("ROBACC_IMAGENET", str(source))
    said = r"expected images in val/<class>/ of .*, got val/ILSVRC2012_val_0000000\d.JPEG, which is in no class folder"
    for use in (lambda: small(source), lambda: rin.provide(tmp_path / "raw")):
        with pytest.raises(ValueError, match=said):
            use()
    assert not (tmp_path / "raw").exists()


def tiny() -> dict[str, bytes]:
    """The images of `imagenet` in the form of tiny-imagenet-200."""
    files, lines = {}, []
    for name, content in imagenet().items():
        split, wnid, image = name.split("/")
        files[f"train/{wnid}/images/{image}" if split == "train" else f"val/images/{image}"] = content
        lines += [f"{image}\t{wnid}\t0\t0\t62\t62"] if split == "val" else []
    return {f"tiny-imagenet-200/{name}": content for name, content in files.items()} | {
        "tiny-imagenet-200/val/val_annotations.txt": "\n".join(lines).encode(),
        "tiny-imagenet-200/test/images/test_0.JPEG": b"no label",
    }


# fault: tiny-imagenet-200 as unzipped
def test_the_form_of_tiny_imagenet_is_read(tmp_path, monkeypatch):
    plain, unzipped = put(imagenet(), tmp_path / "plain"), put(tiny(), tmp_path / "tiny")
    expected, found = small(plain), small(unzipped)
    for split in rin.SPLITS:
        assert found[split].paths == expected[split].paths
        assert torch.equal(found[split].x, expected[split].x)
        assert torch.equal(found[split].y, expected[split].y)
    monkeypatch.setenv("ROBACC_IMAGENET", str(unzipped))
    root = rin.provide(tmp_path / "raw")
    table = rin.index(root, "test")
    assert [(root / path).stat().st_size for path in table["path"]] == table["bytes"]
    assert table["label"] == expected["test"].y.tolist()


# fault: tiny-imagenet-200.zip
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_other_archives_are_called_what_they_are(suffix, tmp_path):
    path = tmp_path / f"tiny{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("tiny-imagenet-200/train/n1/images/1.JPEG", b"")
    else:
        pack(tiny(), path)
    said = (
        r"expected images in .*/<class>/ of .*, got none of the 203 classes; there are tiny-imagenet-200/.*; "
        "if it has another form, unpack it and name its folder"
    )
    with pytest.raises(ValueError, match=said):
        small(path)


def test_a_folder_that_is_in_the_way_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBACC_IMAGENET", str(put(imagenet(), tmp_path / "mine")))
    (tmp_path / "raw").mkdir()
    with pytest.raises(FileExistsError, match=r"expected nothing or a link at .*raw, which is to lead to .*mine"):
        rin.provide(tmp_path / "raw")


def test_a_split_without_these_classes_is_refused(tmp_path):
    source = put({name: raw for name, raw in imagenet().items() if TENCH in name}, tmp_path)
    with pytest.raises(
        ValueError, match=r"expected images in train/<class>/ of .*, got none of the 203 classes; there are n01440764"
    ):
        rin.index(source, "train")


def test_without_the_setting_the_user_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("ROBACC_IMAGENET", raising=False)
    with pytest.raises(ValueError, match=r"expected ROBACC_IMAGENET to name a folder or .tar.gz archive with"):
        rin.user_copy()


def test_real_small_images(archive, tmp_path):
    """The 64-pixel copy: two images of each of its classes and splits, labels and what is missing."""
    kept: dict[str, bytes] = {}
    for entry in entries(archive("restricted-imagenet-64.tar.gz"), ("train", "val"), LABELS):
        if re.search(r"_[01]\.JPEG", entry.path) or entry.split == "val":
            kept[entry.path] = entry.content  # type: ignore[assignment]
    splits = small(put(kept, tmp_path))
    assert torch.bincount(splits["test"].y, minlength=9).tolist() == [300, 150, 100, 0, 50, 150, 0, 0, 400]
    assert len(splits["train"].folders) == len(splits["test"].folders) == 23
    assert len(rin.missing(splits["test"].paths)) == 180
    assert splits["test"].x.float().std() > 50
