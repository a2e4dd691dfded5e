"""ImageNet-size images from files: the two transforms, their seeded draws, and the loader."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as peer

from robacc import image_files, restricted_imagenet
from robacc.data import batch_indices, nested_subset
from robacc.image_files import (
    ImageFiles,
    centre,
    crop_box,
    decode,
    evaluation_batches,
    load,
    random_crop,
    training_batches,
)
from robacc.seeding import generator
from tests.test_image_trees import picture

SETTINGS = {"batch_size": 5, "seed": 3, "n_workers": 0, "prefetch": 2, "device": "cpu"}


def noise(height: int, width: int) -> torch.Tensor:
    rng = np.random.default_rng(height * width)
    return torch.tensor(rng.integers(256, size=(3, height, width), dtype=np.uint8))


@pytest.fixture
def images(tmp_path) -> ImageFiles:
    """Twelve noisy images of several shapes, labels 0 to 3."""
    paths = [f"val/n0{i % 4}/{i}.JPEG" for i in range(12)]
    for i, path in enumerate(paths):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        image = noise(260 + 10 * i, 300 - 5 * i)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / path, "JPEG")
    table = {
        "path": paths,
        "label": [i % 4 for i in range(12)],
        "bytes": [(tmp_path / p).stat().st_size for p in paths],
    }
    (tmp_path / "index.json").write_text(json.dumps({**table, "source": "made up", "missing": ["n09"]}))
    return load(tmp_path / "index.json", tmp_path)


# ---- The interface of data.Images ---------------------------------------------------------------------------------


def test_batches_are_float_in_the_box(images):
    # trap 24
    x, y = images.batch(torch.tensor([5, 0]))
    assert (x.dtype, x.shape, y.tolist()) == (torch.float32, (2, 3, 224, 224), [1, 0])
    assert 0 <= x.min() < 0.1
    assert 0.9 < x.max() <= 1
    assert torch.equal(images.batch(torch.tensor([0]))[0][0], x[1])
    assert len(images) == 12
    assert (images.source, images.missing) == ("made up", ("n09",))


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (3, 3), (99, 12)])
def test_first_is_the_first(n, expected, images):
    if expected:
        x, y = images.first(n)
        assert torch.equal(x, images.batch(torch.arange(expected))[0])
        assert y.tolist() == [i % 4 for i in range(expected)]


@pytest.mark.parametrize("key", ["path", "label", "bytes"])
def test_the_hash_is_of_paths_labels_and_sizes(key, images, tmp_path):
    table = json.loads((tmp_path / "index.json").read_text())
    table[key][3], table[key][4] = table[key][4], table[key][3]
    (tmp_path / "other.json").write_text(json.dumps(table))
    assert load(tmp_path / "other.json", tmp_path).sha256 != images.sha256
    assert load(tmp_path / "index.json", tmp_path).sha256 == images.sha256


def test_a_changed_a_broken_and_a_missing_file_are_named(images):
    # trap 40
    file = images.root / images.paths[2]
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    with pytest.raises(ValueError, match=rf"expected {len(content)} bytes in val/n02/2.JPEG, got {len(content) + 1}"):
        images.batch(torch.tensor([2]))
    file.write_bytes(bytes(len(content)))
    with pytest.raises(ValueError, match=r"expected an image at val/n02/2.JPEG, got a broken file"):
        images.batch(torch.tensor([2]))
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"val/n02/2.JPEG"):
        images.batch(torch.tensor([2]))


@pytest.mark.parametrize(("form", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA")])
def test_what_is_no_plain_jpeg_is_read_too(form, mode):
    image = decode(picture(200, 20, 30, form, mode))
    assert (image.dtype, image.shape) == (torch.uint8, (3, 30, 20))


# ---- The transforms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(300, 500), (500, 300), (256, 256), (100, 150)])
def test_the_evaluation_view_is_the_usual_one(height, width):
    image = noise(height, width)
    usual = peer.Compose([peer.Resize(256), peer.CenterCrop(224)])(Image.fromarray(image.permute(1, 2, 0).numpy()))
    difference = centre(image).permute(1, 2, 0).int() - torch.tensor(np.array(usual)).int()
    assert difference.abs().max() <= 2


def test_crops_are_inside_of_the_right_area_and_ratio():
    boxes = [crop_box(300, 400, generator(0, i)) for i in range(500)]
    for top, left, height, width in boxes:
        assert 0 <= top <= 300 - height
        assert 0 <= left <= 400 - width
        assert 0.07 < height * width / (300 * 400) <= 1
        assert 0.74 < width / height < 1.35
    areas = [height * width / (300 * 400) for _, _, height, width in boxes]
    assert min(areas) < 0.12
    assert max(areas) > 0.9
    assert {left == 0 for _, left, _, _ in boxes} == {True, False} or min(left for _, left, _, _ in boxes) < 5


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (1, 1)])
def test_an_image_that_no_crop_fits_gives_its_centre(height, width):
    top, left, crop_height, crop_width = crop_box(height, width, generator(0))
    assert (crop_height, crop_width) in {(10, 13), (13, 10), (1, 1)}
    assert (2 * top + crop_height - height) in (-1, 0, 1)
    assert (2 * left + crop_width - width) in (-1, 0, 1)
    assert random_crop(noise(height, width), generator(0)).shape == (3, 224, 224)


def test_half_of_the_training_views_are_mirrored(monkeypatch):
    monkeypatch.setattr(image_files, "crop_box", lambda height, width, draws: (0, 0, height, width))
    image = noise(224, 224)
    views = [random_crop(image, generator(0, i)) for i in range(200)]
    mirrored = [torch.equal(view, image.flip(2)) for view in views]
    assert all(same or torch.equal(view, image) for same, view in zip(mirrored, views, strict=True))
    assert 70 < sum(mirrored) < 130


def test_the_draw_is_a_function_of_seed_step_and_index_alone(images):
    # trap 25, trap 26
    together, _ = images.augmented(torch.tensor([4, 7, 4]), step=9, seed=1)
    torch.manual_seed(5)
    alone, _ = images.augmented(torch.tensor([7]), step=9, seed=1)
    assert torch.equal(alone[0], together[1])
    assert torch.equal(together[0], together[2])
    for step, seed in ((10, 1), (9, 2)):
        assert not torch.equal(images.augmented(torch.tensor([7]), step=step, seed=seed)[0], alone)


# ---- The loader ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [0, 2])
def test_training_batches_are_those_of_the_steps_and_a_resumed_run_sees_the_same(n_workers, images):
    # trap 26, trap 39
    subset = nested_subset(images.y, 8, seed=3)
    state = torch.get_rng_state()
    settings = {**SETTINGS, "n_workers": n_workers}
    batches = list(training_batches(images, subset, first_step=1, n_steps=4, **settings))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(batches) == 3
    for step, (x, y) in enumerate(batches, start=1):
        indices = batch_indices(subset, step, 5, seed=3)
        expected, labels = images.augmented(indices, step=step, seed=3)
        assert torch.equal(x, expected)
        assert torch.equal(y, labels)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_evaluation_batches_are_the_images_in_order(n_workers, images):
    settings = {**SETTINGS, "n_workers": n_workers}
    del settings["seed"]
    batches = list(evaluation_batches(images, torch.arange(12), **settings))
    assert [len(y) for _, y in batches] == [5, 5, 2]
    x, y = images.first()
    assert torch.equal(torch.cat([part for part, _ in batches]), x)
    assert torch.equal(torch.cat([part for _, part in batches]), y)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_an_error_in_a_worker_is_one_line_that_names_the_file(n_workers, images):
    (images.root / images.paths[7]).write_bytes(b"")
    settings = {**SETTINGS, "n_workers": n_workers}
    with pytest.raises(ValueError, match=r"^expected \d+ bytes in val/n03/7.JPEG, got 0; fetch the data set again$"):
        list(training_batches(images, torch.arange(8), first_step=0, n_steps=4, **settings))


# ---- Real images --------------------------------------------------------------------------------------------------


def test_all_203_classes_go_through(archive, tmp_path: Path):
    restricted_imagenet.unpack(archive("imagenet-sample.tar.gz"), tmp_path, None)
    table = restricted_imagenet.index(tmp_path, "test", None)
    assert table["missing"] == []
    (tmp_path / "index.json").write_text(json.dumps(table))
    images = load(tmp_path / "index.json", tmp_path)
    counts = torch.bincount(images.y).tolist()
    assert counts == [len(indices) for indices in restricted_imagenet.SUPER_CLASSES.values()]
    settings = {**SETTINGS, "batch_size": 64}
    del settings["seed"]
    for x, _ in evaluation_batches(images, torch.arange(203), **settings):
        assert x.shape[1:] == (3, 224, 224)
        assert x.min() >= 0
        assert x.max() <= 1
        assert x.flatten(1).std(1).min() > 0.05  # a picture, not a blank
    x, _ = images.augmented(torch.arange(20), step=0, seed=0)
    assert x.flatten(1).std(1).min() > 0.01
