"""Trees of images as folders and archives: what is found, in which order, and what is refused."""

import io
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from robacc.images import folders
from robacc.images.folders import entries, order, pixels
from tests.images_made_up import pack, picture, put

SPLITS = ("train", "test")
LABELS = {"cat": 3, "dog": 5}
read = partial(folders.read, splits=SPLITS, size=8, resize=False, n_workers=1, report=lambda text: None)


def tree(n: int = 3) -> dict[str, bytes]:
    """Pictures of one colour each, no two the same: 0.png, 1.png ... of two classes in two splits."""
    names = [f"{split}/{folder}/{i}.png" for split in SPLITS for folder in LABELS for i in range(n)]
    return {name: picture(value) for value, name in enumerate(names)}


@pytest.mark.parametrize("top", ["", "top/", "top/inner/"])
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_tree_is_read_wherever_it_stands(form, top, tmp_path):
    files = {f"{top}{name}": content for name, content in tree().items()}
    source = put(files, tmp_path / "tree") if form == "folder" else pack(files, tmp_path / "tree.tar.gz")
    splits = read(source, LABELS)
    assert splits.keys() == set(SPLITS)
    for split, first in zip(SPLITS, (0, 6), strict=True):
        x, y, paths = splits[split]
        assert (x.dtype, x.shape, y.dtype) == (torch.uint8, (6, 3, 8, 8), torch.int64)
        expected = sorted(name for name in tree() if name.startswith(split))
        assert sorted(paths) == expected
        assert [LABELS[path.split("/")[1]] for path in paths] == y.tolist()
        assert x[:, 0, 0, 0].tolist() == [first + expected.index(path) for path in paths]
        assert torch.equal(x, torch.stack([x[:, 0], 0 * x[:, 0], 0 * x[:, 0] + 255], 1))
        assert splits[split].folders == {"cat", "dog"}


def test_folder_and_archive_workers_and_the_order_of_files_change_nothing(tmp_path):
    # trap 25, trap 39
    files = tree(1 + folders.CHUNK // 2)  # three chunks
    assert len(set(files.values())) == len(files)
    backwards = dict(reversed(files.items()))
    sources = [put(files, tmp_path / "tree"), pack(files, tmp_path / "a.tgz"), pack(backwards, tmp_path / "b.tgz")]
    results = [read(source, LABELS, n_workers=n) for source in sources for n in (1, 2)]
    for result in results[1:]:
        for split in SPLITS:
            assert torch.equal(result[split].x, results[0][split].x)
            assert torch.equal(result[split].y, results[0][split].y)


def test_the_first_images_are_a_sample_of_all_classes():
    paths = [f"train/{folder}/{i:03}.png" for folder in "abcde" for i in range(200)]
    places = order(paths)
    assert sorted(places) == list(range(1000))
    counts = np.bincount([place // 200 for place in places[:100]], minlength=5)
    assert counts.min() >= 8
    assert [paths[i] for i in places] == [paths[::-1][i] for i in order(paths[::-1])]


def test_other_files_and_folders_are_left_out(tmp_path):
    extra = dict.fromkeys(
        ["train/cat/._1.png", "train/cat/notes.txt", "train/.DS_Store", "README", "train/cow/1.png"], b"x"
    )
    for source in (put(tree() | extra, tmp_path / "tree"), pack(tree() | extra, tmp_path / "tree.tar.gz")):
        assert {entry.path for entry in entries(source, SPLITS, LABELS)} == tree().keys()


def test_speed_is_reported(tmp_path):
    lines: list[str] = []
    read(put(tree(), tmp_path), LABELS, report=lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("12 images decoded in")
    assert "images/s" in lines[0]


# ---- What is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../train/cat/9.png", "top/../../train/cat/9.png", "/train/cat/9.png"])
def test_paths_that_lead_out_of_an_archive_are_refused(name, tmp_path):
    # trap 40
    with pytest.raises(ValueError, match=r"expected paths inside of bad.tar.gz, got '.*9.png'; archive refused"):
        read(pack({**tree(), name: picture(0)}, tmp_path / "bad.tar.gz"), LABELS)
    assert [file.name for file in tmp_path.iterdir()] == ["bad.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_an_archive_are_refused(kind, tmp_path):
    # trap 40
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("train/cat/1.png")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"expected one tree of plain files in .*, got 'train/cat/1.png'"):
        read(tmp_path / "bad.tar.gz", LABELS)


# fault: archives that fill the memory or the disk
@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"MOST_MEMBERS": 5}, "expected at most 5 members and .* bytes in .*bad.tar.gz, got more"),
        ({"LARGEST_ARCHIVE": 300}, "expected at most .* members and 300 bytes in .*bad.tar.gz, got more"),
        ({"LARGEST_IMAGE": 10}, "expected an image at .*.png in .*bad.tar.gz, got .* bytes"),
        ({"LONGEST_NAME": 100}, "expected a whole .tar.gz archive at .*bad.tar.gz, got: a header of 3,.* bytes"),
    ],
)
def test_what_an_archive_may_hold_is_bounded(limit, said, tmp_path, monkeypatch):
    for name, value in limit.items():
        monkeypatch.setattr(folders, name, value)
    source = pack(tree() | {f"{'x' * 3000}/a.txt": b""}, tmp_path / "bad.tar.gz")
    with pytest.raises(ValueError, match=said):
        read(source, LABELS)


# fault: an image of more pixels than memory
@pytest.mark.parametrize("most", [64, 100])
@pytest.mark.parametrize("resize", [True, False])
def test_an_image_of_too_many_pixels_is_named(resize, most, tmp_path, monkeypatch):
    """PIL warns above its limit, and raises an error of its own above twice that."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    files = tree() | {"train/dog/1.png": picture(0, width=18)}
    with pytest.raises(
        ValueError, match=rf"expected an image at train/dog/1.png, got: more than {most} pixels; replace"
    ):
        read(put(files, tmp_path), LABELS, resize=resize)


def test_two_trees_in_an_archive_are_refused(tmp_path):
    files = tree() | {f"copy/{name}": content for name, content in tree().items()}
    with pytest.raises(ValueError, match="expected one tree of plain files"):
        read(pack(files, tmp_path / "two.tar.gz"), LABELS)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", "half"])
def test_what_is_no_whole_archive_is_refused(content, tmp_path):
    whole = pack(tree(60), tmp_path / "bad.tar.gz").read_bytes()
    (tmp_path / "bad.tar.gz").write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ValueError, match=r"expected a whole .tar.gz archive at .*bad.tar.gz, got: .*; copy it anew"):
        read(tmp_path / "bad.tar.gz", LABELS)


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("content", [b"", b"no picture", picture(1)[:50], picture(1, form="JPEG", width=64)[:-400]])
def test_a_broken_image_is_named(content, n_workers, form, tmp_path):
    files = tree() | {"train/dog/1.png": content}
    source = put(files, tmp_path / "tree") if form == "folder" else pack(files, tmp_path / "tree.tar.gz")
    with pytest.raises(
        ValueError, match=r"expected an image at train/dog/1.png, got: a broken file; replace or remove it"
    ):
        read(source, LABELS, resize=True, n_workers=n_workers)


def test_an_image_of_another_size_is_named(tmp_path):
    files = tree() | {"train/dog/1.png": picture(0, width=9)}
    with pytest.raises(
        ValueError, match=r"expected an image at train/dog/1.png, got: expected 8 x 8 pixels, got 9 x 8"
    ):
        read(put(files, tmp_path), LABELS)


def test_a_missing_source_and_a_folder_without_splits_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder or archive at .*nowhere"):
        read(tmp_path / "nowhere", LABELS)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=f"expected folders train and test in {tmp_path}, got 2 others in"):
        read(tmp_path, LABELS)


def test_a_split_without_images_is_named(tmp_path):
    files = {name: content for name, content in tree().items() if name.startswith("train")}
    with pytest.raises(ValueError, match=r"expected images in test/<class>/ of .*, got none"):
        read(put(files, tmp_path), LABELS)


# ---- Pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["bytes", "file"])
def test_pixels_are_those_of_the_file(form, tmp_path):
    # trap 24
    image = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    content = tmp_path / "a.png" if form == "file" else (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(pixels(content, size=32, resize=False), image.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_every_kind_of_image_becomes_rgb(mode):
    form = "PNG" if mode == "RGBA" else "JPEG"
    assert pixels(picture(100, 20, 30, form, mode), size=8, resize=True).shape == (3, 8, 8)


@pytest.mark.parametrize(("width", "height"), [(300, 100), (100, 300)])
def test_the_centre_is_cut_out(width, height):
    """An image that is white in the middle square alone: what is left is white, but for what its border averages in."""
    image = np.zeros((height, width), np.uint8)
    image[(height - 100) // 2 :, (width - 100) // 2 :][:100, :100] = 255
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    cut = pixels(content.getvalue(), size=10, resize=True)
    assert cut[:, 1:-1, 1:-1].min() == 255
    assert cut.min() > 200


def test_a_large_jpeg_decoded_small_is_nearly_the_same():
    ramp = np.linspace(0, 255, 800)[None, :, None] * np.ones((600, 1, 3))
    content = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(content, "JPEG", quality=95)
    small = pixels(content.getvalue(), size=64, resize=True).astype(float)
    centres = 100 + (np.arange(64) + 0.5) * 600 / 64 - 0.5
    np.testing.assert_allclose(small, np.broadcast_to(centres * 255 / 799, (3, 64, 64)), atol=2)
