"""A user's own images: what is read and refused, the parameters that follow, and a run of the first stages."""

import gzip
import io
import json
import re
import shutil
import stat
import zipfile
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from robacc import params
from robacc.balls import parse
from robacc.datasets import facts, own
from robacc.images import loading
from robacc.sources import own as source
from stages import evaluate, fetch, identity, repro, train
from stages import own as stage
from tests.images_made_up import pack, put

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def noise(*shape: int) -> bytes:
    return png(RNG.integers(256, size=shape, dtype=np.uint8))


def tree(n_train: int = 12, n_test: int = 4, classes: tuple[str, ...] = ("cat", "dog"), shape=(40, 50, 3)) -> dict:
    counts = {"train": n_train, "test": n_test}
    return {
        f"{split}/{name}/{i}.png": noise(*shape) for split, n in counts.items() for name in classes for i in range(n)
    }


def zipped(files: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def idx(content: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, content.ndim]) + b"".join(n.to_bytes(4, "big") for n in content.shape)
    return header + content.astype(np.uint8).tobytes()


def four(n_classes: int = 3, n_train: int = 30, n_test: int = 9) -> dict[str, bytes]:
    """The four IDX files, packed, as Fashion-MNIST has them."""
    files = {}
    for split, n in (("train", n_train), ("t10k", n_test)):
        files[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(idx(RNG.integers(256, size=(n, 28, 28))))
        files[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx(np.arange(n) % n_classes))
    return files


def read(files: Path, size: int | str = "auto") -> tuple[source.Found, dict, str]:
    """Return what `source.read` does, and what it reports."""
    lines: list[str] = []
    found, said = source.read(files, size, n_workers=1, report=lines.append)
    return found, said, "\n".join(lines)


# ---- What is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["folder", ".tar", ".tar.gz", ".zip"])
def test_folders_and_archives_give_the_same_images(form, tmp_path):
    files = tree(classes=("dog", "cat", "ox"))
    plain, said, _ = read(put(files, tmp_path / "plain"))
    clutter = [".DS_Store", "train/Thumbs.db", "__MACOSX/train/cat/._1.png", "train/.hidden/1.png", "train/cat/a.txt"]
    mess = files | dict.fromkeys(clutter, b"x")
    top = {f"photos/{name}": content for name, content in mess.items() if not name.startswith("__")}
    path = tmp_path / f"photos{form}"
    write = {"folder": put, ".tar": pack, ".tar.gz": pack, ".zip": zipped}[form]
    packed = write(mess if form == "folder" else top, path)
    found, same, _ = read(packed)
    assert same["classes"] == ["cat", "dog", "ox"]
    assert same["counts"] == {"train": 36, "test": 12}
    assert same["sha256"] == said["sha256"]
    assert torch.equal(found.images["test"][1], plain.images["test"][1])


@pytest.mark.parametrize(
    ("shape", "wanted", "size", "channels", "form"),
    [
        ((28, 28), "auto", 28, 1, "of 28 pixels"),
        ((20, 24), "auto", 28, 1, "of 20 to 24 pixels, resized to 28"),
        ((28, 28, 3), "auto", 32, 3, "of 28 pixels, resized to 32"),
        ((32, 32, 3), "auto", 32, 3, "of 32 pixels"),
        ((32, 32), "auto", 32, 3, "of 32 pixels, grey ones with three equal channels"),
        ((90, 70, 3), "auto", 64, 3, "of 70 to 90 pixels, resized to 64"),
        ((90, 70, 3), 32, 32, 3, "of 70 to 90 pixels, resized to 32"),
        ((90, 70, 3), 28, 28, 1, "of 70 to 90 pixels, resized to 28, in grey"),
    ],
)
def test_the_size_suits_the_images_or_is_the_users_and_is_said(shape, wanted, size, channels, form, tmp_path):
    found, said, text = read(put(tree(shape=shape), tmp_path / "mine"), wanted)
    assert found.images["train"][0].shape == (24, channels, size, size)
    assert said["size"] == size
    assert len(said["mean"]) == len(said["std"]) == channels
    assert text.endswith(f"\nimages {form}")
    if form.endswith("equal channels"):
        assert torch.equal(found.images["test"][0][:, 0], found.images["test"][0][:, 2])


def test_the_mean_and_deviation_are_those_of_the_training_pixels(tmp_path):
    found, said, _ = read(put(tree(shape=(32, 32, 3)), tmp_path))
    values = found.images["train"][0].double() / 255
    assert said["mean"] == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert said["std"] == pytest.approx(values.std((0, 2, 3)).tolist(), abs=1e-4)
    assert source.colours(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)) == ([0.0], [0.01])


def test_idx_files_are_read_with_their_names_or_numbers(tmp_path):
    files = four()
    found, said, _ = read(put(files, tmp_path / "fashion"))
    assert said["classes"] == ["0", "1", "2"]
    assert said["counts"] == {"train": 30, "test": 9}
    pixels = np.frombuffer(gzip.decompress(files["t10k-images-idx3-ubyte.gz"])[16:], np.uint8).reshape(9, 1, 28, 28)
    np.testing.assert_array_equal(found.images["test"][0].numpy(), pixels)
    (tmp_path / "fashion/classes.txt").write_text("shirt\nshoe\n\nbag\n")
    assert read(tmp_path / "fashion")[1]["classes"] == ["shirt", "shoe", "bag"]
    (tmp_path / "fashion/classes.txt").write_text("shirt\nshoe\n")
    with pytest.raises(ValueError, match=r"expected 3 different names in .*classes.txt, got 2; correct it"):
        read(tmp_path / "fashion")


# fault: a 16-bit, a transparent, a turned image of the user's
def test_pixels_are_what_a_viewer_shows(tmp_path):
    deep = np.full((40, 40), 0x4000, np.uint16)
    clear = np.zeros((40, 40, 4), np.uint8)
    turned = np.zeros((40, 40, 3), np.uint8)
    turned[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    content = io.BytesIO()
    Image.fromarray(turned).save(content, "PNG", exif=exif)
    files = tree() | {"test/cat/0.png": png(deep), "test/cat/1.png": png(clear), "test/cat/2.png": content.getvalue()}
    classes = source.folders.read(
        put(files, tmp_path), {"cat": 0}, splits=["test"], size=32, resize=True, upright=True, n_workers=1, report=print
    )
    by_name = dict(zip(classes["test"].paths, classes["test"].x, strict=True))
    assert by_name["test/cat/0.png"].unique().tolist() == [0x40]
    assert by_name["test/cat/1.png"].unique().tolist() == [255]
    assert by_name["test/cat/2.png"][:, -4:].unique().tolist() == [255]
    assert by_name["test/cat/2.png"][:, :20].unique().tolist() == [0]


# fault: a test image that is a training image
def test_a_test_image_that_is_a_training_image_is_said(tmp_path):
    files = tree()
    files["test/dog/0.png"] = files["train/cat/3.png"]
    found, said, text = read(put(files, tmp_path / "mine"))
    assert "; 1 test images equal a training image" in text
    source.keep(found, said["name"], tmp_path / "raw")
    assert "1 test images equal a training image" in loading.load(tmp_path / "raw/test.safetensors").source  # type: ignore[attr-defined]


def test_a_link_in_a_users_folder_is_followed(tmp_path):
    plain = put(tree(), tmp_path / "plain")
    (tmp_path / "mine/train").mkdir(parents=True)
    (tmp_path / "mine/test").symlink_to(plain / "test")
    for name in ("cat", "dog"):
        (tmp_path / "mine/train" / name).symlink_to(plain / "train" / name)
    assert read(tmp_path / "mine")[1]["sha256"] == read(plain)[1]["sha256"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("photos", "photos"), ("set.tar.gz", "set"), ("a $x$ | <b>.zip", "a x b"), ("$", "images"), ("x" * 99, "x" * 60)],
)
def test_a_title_can_be_shown_anywhere(name, shown, tmp_path):
    assert source.title(tmp_path / name) == shown


# ---- What is refused ----------------------------------------------------------------------------------------------


def without(files: dict, start: str) -> dict:
    return {name: content for name, content in files.items() if not name.startswith(start)}


# fault: own images that cannot be used
@pytest.mark.parametrize(
    ("files", "said"),
    [
        (lambda: without(tree(), "test/"), "expected images in test/<class>/ of .*, got none"),
        (lambda: without(tree(), "test/dog"), "expected test images of every class, got none of 'dog'; add some, or"),
        (lambda: without(tree(), "train/cat"), "expected train images of every class, got none of 'cat'; add some, or"),
        (
            lambda: without(without(tree(), "test/cat"), "train/cat"),
            "expected two classes or more, got dog; each",
        ),
        (lambda: tree(n_train=2), "expected 20 training images or more, got 4; add some"),
        (lambda: tree(classes=("$a$", "b")), r"expected the name of a class to have .*, got '\$a\$'; rename it"),
        (
            lambda: tree() | {"train/cat/9.png": b"none"},
            "expected an image at train/cat/9.png, got: a broken file",
        ),
        (
            lambda: tree() | {"test/cat/1.png": noise(40, 40)[:-90]},
            "expected an image at test/cat/1.png, got: a brok",
        ),
        (lambda: {"train/1.png": noise(8, 8), "test/1.png": noise(8, 8)}, "got train/1.png, which is in no class fol"),
        (lambda: {"a/1.png": b"", "b/1.png": b""}, "expected folders train and test in .*, got 2 others in"),
    ],
)
@pytest.mark.parametrize("form", ["folder", ".zip"])
def test_what_cannot_be_used_is_one_line(form, files, said, tmp_path):
    path = tmp_path / f"mine{form}"
    packed = put(files(), path) if form == "folder" else zipped(files(), path)
    if "others in" in said and form == ".zip":
        said = "expected images in (train|test)/<class>/ of .*, got none"
    with pytest.raises(ValueError, match=said) as caught:
        read(packed)
    assert "\n" not in str(caught.value)


# fault: own images that cannot be used
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train-labels-idx1-ubyte.gz", gzip.compress(idx(np.arange(29) % 3)), "as many images as labels of train"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((9, 30, 30)))), r"an IDX file of items \[28, 28\] at"),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(idx(np.zeros(9))),
            "images of every class, got none of '1', '2'",
        ),
        ("t10k-labels-idx1-ubyte.gz", None, "expected t10k-labels-idx1-ubyte in"),
    ],
)
def test_idx_files_that_cannot_be_used_are_one_line(name, content, said, tmp_path):
    files = four() | {name: content}
    with pytest.raises((ValueError, OSError), match=said):
        read(put({name: content for name, content in files.items() if content is not None}, tmp_path))


@pytest.mark.parametrize("size", [40, "large", 32])
def test_a_size_without_a_net_is_one_line(size, tmp_path):
    with pytest.raises(ValueError, match=r"expected own.size to be .*28.*, got '?(40|large|32)"):
        read(put(four(), tmp_path), size)


# fault: a zip that does harm
def test_harm_in_a_zip_is_refused(tmp_path, monkeypatch):
    bad = tmp_path / "bad.zip"
    with pytest.raises(ValueError, match=r"expected paths inside of bad.zip, got '../x.png'; archive refused"):
        read(zipped({"../x.png": b""} | tree(), bad))
    with zipfile.ZipFile(bad, "w") as archive:
        link = zipfile.ZipInfo("train/cat/1.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"expected one tree of plain files in .*, got 'train/cat/1.png'"):
        read(bad)
    whole = zipped(tree(), bad).read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"expected a whole .zip archive at .*bad.zip, got: .*; copy it anew"):
        read(bad)
    monkeypatch.setattr(source.folders, "LARGEST_IMAGE", 100)
    with pytest.raises(ValueError, match=r"expected an image at train/cat/0.png in .*, got .* bytes"):
        read(zipped(tree(), bad))


# ---- The facts and parameters -------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, whose own.json is there too, and whose DVC does nothing."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(own.FILE, tmp_path / "own.json")
    monkeypatch.setattr(own, "FILE", tmp_path / "own.json")
    monkeypatch.setenv("ROBACC_WORKERS", "1")
    monkeypatch.chdir(tmp_path)
    called = []

    @contextmanager
    def alone():
        yield Namespace(dvc=lambda *words: called.append((words, Path("params.yaml").read_text())))

    monkeypatch.setattr(repro, "alone", alone)
    return called


def make_own(files: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    monkeypatch.setenv("ROBACC_IMAGES", str(files))
    stage.main(Namespace())
    return params.load()


def test_make_own_sets_params_to_the_images_and_runs(project, tmp_path, monkeypatch):
    comments = re.findall("#.*", Path("params.yaml").read_text())
    p = make_own(put(tree(200, 30, ("a", "b", "c"), (64, 64, 3)), tmp_path / "photos"), monkeypatch)
    assert [words for words, _ in project] == [("repro",)]
    assert p.run["own"] == ["own"]
    of = facts.of("own")
    assert (of.title, of.classes, of.channels, of.size) == ("own images (photos)", ("a", "b", "c"), 3, 64)
    like, recipe = p.recipes["restricted-imagenet-laptop"], p.recipes["own"]
    assert (recipe.n_classes, recipe.mean) == (3, own.read()["mean"])
    assert recipe.model_copy(update={"n_classes": 9, "mean": like.mean, "std": like.std}) == like
    for section in ("balls", "claims"):
        assert getattr(p, section)["own"] == getattr(p, section)["restricted_imagenet_64"]
    mine, theirs = p.datasets["own"], p.datasets["restricted_imagenet_64"]
    assert (mine.seeds, mine.natural) == (theirs.seeds, theirs.natural)
    assert (mine.n_train, mine.sizes) == (600, [[150, 5], [300, 5]])
    assert (p.evaluate["own"].n_images, p.autoattack["own"].n_images, p.visualize["own"].n_images) == (90, 90, 90)
    assert p.visualize["own"].n_training == 600
    assert re.findall("#.*", Path("params.yaml").read_text()) == comments
    fetch.main(Namespace(dataset="own"))
    assert len(loading.load(Path("data/own/train.safetensors"))) == 600


@pytest.mark.parametrize("size", own.FORMS)
def test_every_size_has_parameters_that_params_allows_and_a_net_that_takes_its_images(size):
    content = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    said = own.read() | {"size": size, "mean": [0.5] * own.FORMS[size].facts.channels}
    values = own.parameters(said | {"std": said["mean"], "counts": {"train": 20, "test": 2}, "fewest": 1}, content)
    assert params.IMAGES_OF[values["recipes.own.arch"]] == (own.FORMS[size].facts.channels, size)
    chosen = own.FORMS[size]
    theirs = {(ball.norm, ball.eps) for ball in map(parse, content["balls"][chosen.like]) if not ball.is_standard}
    assert {(norm, eps) for norm, grid in chosen.eps.items() for eps in grid} <= theirs
    assert values["datasets.own.sizes"] == [[5, 5], [10, 5]]
    assert values["autoattack.own.n_images"] == values["visualize.own.n_images"] == 2


@pytest.mark.parametrize(
    ("n_train", "first", "sizes"),
    [
        (60000, 100, [100, 300, 1000, 3000, 10000]),
        (50000, 1000, [1000, 3000, 10000]),
        (11500, 900, [1000, 3000]),
        (400, 100, [100, 200]),
        (20, 20, [5, 10]),
    ],
)
def test_there_are_two_sizes_below_the_full_set_or_more(n_train, first, sizes):
    assert own.sizes(n_train, first) == sizes


def test_a_run_that_fails_leaves_everything_as_it_was(project, tmp_path, monkeypatch):
    before = Path("params.yaml").read_bytes(), own.FILE.read_bytes()

    def fail(*_: str) -> None:
        assert own.FILE.read_bytes() != before[1]
        raise SystemExit(255)

    @contextmanager
    def alone():
        yield Namespace(dvc=fail)

    monkeypatch.setattr(repro, "alone", alone)
    with pytest.raises(SystemExit):
        make_own(put(tree(), tmp_path / "photos"), monkeypatch)
    assert (Path("params.yaml").read_bytes(), own.FILE.read_bytes()) == before


def test_a_run_that_was_killed_between_its_two_files_goes_on(project, tmp_path, monkeypatch):
    photos = put(tree(), tmp_path / "photos")
    _, said, _ = read(photos)
    own.FILE.write_text(json.dumps(said))
    with pytest.raises(params.ParamsError, match=r"expected recipes.own.n_classes: 2, as .* own images \(photos\) has"):
        params.load()
    assert make_own(photos, monkeypatch).datasets["own"].n_train == 24


def test_a_users_parameters_stay_until_the_images_change(project, tmp_path, monkeypatch):
    photos = put(tree(), tmp_path / "photos")
    make_own(photos, monkeypatch)
    mine = ["standard", "l2-0.3137", "l2-1.2549", "l2-2.0", "linf-0.0157", "linf-0.0314"]
    text = repro.with_values(Path("params.yaml").read_text(), [f"balls.own={mine}"])
    Path("params.yaml").write_text(text)
    assert make_own(photos, monkeypatch).balls["own"] == mine
    put({"test/cat/9.png": noise(40, 40, 3)}, photos)
    again = make_own(photos, monkeypatch)
    assert "l2-2.0" not in again.balls["own"]
    assert again.evaluate["own"].n_images == 9


# fault: the user's images changed, and the results are of the old ones
def test_other_images_are_other_code_so_that_the_stage_fetch_runs(project, tmp_path, monkeypatch):
    first = identity.stage_hash("fetch", "own", make_own(put(tree(), tmp_path / "photos"), monkeypatch))
    train_first = identity.stage_hash("train", "mnist", params.load())
    second = identity.stage_hash("fetch", "own", make_own(put(tree(), tmp_path / "photos"), monkeypatch))
    assert first != second
    assert identity.stage_hash("train", "mnist", params.load()) == train_first


# fault: the user's images changed, and the results are of the old ones
def test_fetch_takes_the_images_of_own_json_alone(project, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"expected your images at .*train.safetensors, found none; name"):
        fetch.main(Namespace(dataset="own"))
    make_own(put(tree(), tmp_path / "photos"), monkeypatch)
    found, _, _ = read(put(tree(), tmp_path / "others"))
    source.keep(found, "others", stage.RAW)
    with pytest.raises(ValueError, match=r"expected the images of own.json at .*train.safetensors, got others; name"):
        fetch.main(Namespace(dataset="own"))
    assert not Path("data/own").exists()


def test_without_the_setting_the_user_is_told_what_to_set(project, monkeypatch):
    monkeypatch.delenv("ROBACC_IMAGES", raising=False)
    with pytest.raises(ValueError, match=r"expected ROBACC_IMAGES to name your images, got nothing; set it to a fol"):
        stage.main(Namespace())
    monkeypatch.setenv("ROBACC_IMAGES", "nowhere")
    with pytest.raises(OSError, match=r"ROBACC_IMAGES=nowhere: expected a folder or archive at nowhere, got noth"):
        stage.main(Namespace())


@pytest.mark.parametrize("text", ["datasets: [", "datasets: {}", "run: {}"])
def test_a_damaged_params_is_one_line(text, project, tmp_path, monkeypatch):
    Path("params.yaml").write_text(text)
    with pytest.raises(params.ParamsError, match=r"^params.yaml.*") as caught:
        make_own(put(tree(), tmp_path / "photos"), monkeypatch)
    assert "\n" not in str(caught.value)


# ---- The first stages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "classes", "eps"),
    [
        ((28, 28), ("a", "b"), "{l2: [1.5], linf: [0.2]}"),
        ((32, 32, 3), ("a", "b", "c"), "{l2: [0.3137], linf: [0.0157]}"),
    ],
)
def test_nets_are_trained_and_attacked_on_own_images(shape, classes, eps, project, tmp_path, monkeypatch):
    files = {
        f"{split}/{name}/{i}.png": png(RNG.integers(70 * label, 70 * label + 60, size=shape).astype(np.uint8))
        for split, n in (("train", 12), ("test", 4))
        for label, name in enumerate(classes)
        for i in range(n)
    }
    make_own(put(files, tmp_path / "photos"), monkeypatch)
    values = ["recipes.own.steps=[[1, 10]]", "recipes.own.batch_size=8", "datasets.own.seeds.n=2"]
    values += ["datasets.own.seeds.n_deciding=2", "datasets.own.seeds.n_attacked=2", "training.hardware=cpu"]
    values += [f"evaluate.own.eps={eps}", "evaluate.own.attack.restarts=[0.5]", "evaluate.own.n_checked=4"]
    values += ["evaluate.own.attack.n_queries={l2: 0, linf: 9}"]
    Path("params.yaml").write_text(repro.with_values(Path("params.yaml").read_text(), values))
    arguments = Namespace(dataset="own", ball=parse("standard"))
    fetch.main(arguments)
    train.main(arguments)
    evaluate.main(arguments)
    (folder,) = Path("results/evaluate").iterdir()
    accuracy = pd.concat(map(pd.read_csv, folder.glob("*.csv")))
    assert accuracy.n.max() == 4 * len(classes)
