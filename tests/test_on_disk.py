"""ImageNet-size images from files: the two transforms, their seeded draws, and the loader."""

import resource
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as peer

from robacc import params
from robacc.balls import Ball
from robacc.datasets.restricted_imagenet import LABELS, SUPER_CLASSES
from robacc.images import folders, loading
from robacc.images.batches import batch_indices, nested_subset
from robacc.images.on_disk import ImageFiles, centre, crop_box, decode, random_crop, save
from robacc.nets import model as nets
from robacc.params import Recipe
from robacc.seeding import generator
from robacc.training import store
from robacc.training.jobs import Job
from stages import fetch
from tests.images_made_up import picture, put

ROOT = Path(__file__).parent.parent
WHOLE = slice(None)
SETTINGS = {"batch_size": 5, "seed": 3, "augment": "random_crop", "padding": 0, "share": WHOLE, "n_decoders": 0}
FILE = Path("data/made_up/train.safetensors")


def noise(height: int, width: int) -> torch.Tensor:
    rng = np.random.default_rng(height * width)
    return torch.tensor(rng.integers(256, size=(3, height, width), dtype=np.uint8))


def table(root: Path, paths: list[str]) -> dict:
    """Return the list of images that the fetch stage would make: labels 0 to 3 in turn."""
    sizes = [(root / path).stat().st_size for path in paths]
    labels = [i % 4 for i in range(len(paths))]
    return {"path": paths, "label": labels, "bytes": sizes, "source": "made up", "missing": ["n09"]}


@pytest.fixture
def images(tmp_path, monkeypatch) -> ImageFiles:
    """Twelve noisy images of several shapes, labels 0 to 3."""
    monkeypatch.chdir(tmp_path)
    root = Path("data/incoming/made_up")
    paths = [f"val/n0{i % 4}/{i}.JPEG" for i in range(12)]
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image = noise(260 + 10 * i, 300 - 5 * i)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / path, "JPEG")
    save(table(root, paths), FILE)
    return loading.load(FILE)


# ---- The interface of every image set -----------------------------------------------------------------------------


def test_batches_are_float_in_the_box(images):
    # trap 24
    x, y = images.batch(torch.tensor([5, 0]))
    assert (x.dtype, x.shape, y.tolist()) == (torch.float32, (2, 3, 224, 224), [1, 0])
    assert 0 <= x.min() < 0.1
    assert 0.9 < x.max() <= 1
    assert torch.equal(images.batch(torch.tensor([0]))[0][0], x[1])
    assert len(images) == 12
    assert (images.source, images.missing) == ("made up", ("n09",))


@pytest.mark.parametrize(("n", "expected"), [(3, 3), (99, 12)])
def test_first_is_the_first(n, expected, images):
    x, y = images.first(n)
    assert torch.equal(x, images.batch(torch.arange(expected))[0])
    assert y.tolist() == [i % 4 for i in range(expected)]


@pytest.mark.parametrize("key", ["path", "label", "bytes"])
def test_the_hash_is_of_paths_labels_and_sizes(key, images):
    changed = table(images.root, images.paths)
    other = FILE.with_stem("other")
    save(changed, other)
    assert loading.load(other).sha256 == images.sha256
    changed[key][3], changed[key][4] = changed[key][4], changed[key][3]
    save(changed, other)
    assert loading.load(other).sha256 != images.sha256


def test_a_list_without_its_images_says_what_to_run(images):
    shutil.move(images.root, "elsewhere")
    FILE.touch()
    message = "expected images in .*/data/incoming/made_up, got nothing; run `dvc repro -f -s fetch_made_up`, each"
    with pytest.raises(FileNotFoundError, match=message):
        loading.load(FILE)


# fault: dvc config cache.type symlink
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_list_that_links_to_a_cache_finds_its_images(link, images):
    cached = Path("cache/files/md5/46/f39ab").absolute()
    cached.parent.mkdir(parents=True)
    FILE.rename(cached)
    link(FILE, cached)
    found = loading.load(FILE)
    assert (found.sha256, found.root) == (images.sha256, images.root)
    assert found.batch(torch.tensor([0]))[0].shape == (1, 3, 224, 224)


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


# fault: an image of more pixels than memory
@pytest.mark.parametrize("most", [10, 70_000])
def test_an_image_of_too_many_pixels_is_named(most, images, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(
        ValueError, match=rf"expected an image at val/n00/0.JPEG, got more than {most:,} pixels; replace"
    ):
        images.batch(torch.tensor([0]))


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


def test_a_training_view_is_its_box_brought_to_size_and_half_of_them_are_mirrored():
    """On ramps, red to the right and green downwards, whose colour says where in the image a pixel was."""
    ramp = torch.arange(224, dtype=torch.uint8)
    image = torch.stack(torch.meshgrid(ramp, ramp, indexing="xy"))
    mirrored = 0
    for i in range(200):
        view, (top, left, height, width) = random_crop(image, generator(0, i)), crop_box(224, 224, generator(0, i))
        centres = (torch.arange(224) + 0.5) / 224
        across, down = left - 0.5 + width * centres, top - 0.5 + height * centres
        if view[0, 0, 0] > view[0, 0, -1]:
            mirrored, across = mirrored + 1, across.flip(0)
        assert (view[0] - across.clamp(left, left + width - 1)).abs().max() < 2
        assert (view[1] - down.clamp(top, top + height - 1)[:, None]).abs().max() < 2
    assert 70 < mirrored < 130


def test_the_draw_is_a_function_of_seed_step_and_index_alone(images):
    # trap 25, trap 26
    view = images.pixels((9, 7), seed=1)
    torch.manual_seed(5)
    assert torch.equal(images.pixels((9, 7), seed=1), view)
    for draw, seed in (((10, 7), 1), ((9, 7), 2), ((9, 6), 1)):
        assert not torch.equal(images.pixels(draw, seed=seed), view)


# ---- The loader ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_decoders", [0, 2])
def test_training_batches_are_those_of_the_steps_and_a_resumed_run_sees_the_same(n_decoders, images):
    # trap 26, trap 39
    subset = nested_subset(images.y, 8, seed=3)
    state = torch.get_rng_state()
    batches = list(images.training_batches(subset, range(1, 4), **{**SETTINGS, "n_decoders": n_decoders}))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(batches) == 3
    for step, (x, y) in enumerate(batches, start=1):
        indices = batch_indices(subset, step, 5, seed=3)
        expected = torch.stack([images.pixels((step, i), seed=3) for i in indices.tolist()])
        assert torch.equal(x, expected.float() / 255)
        assert torch.equal(y, images.y[indices])


def test_the_shares_of_two_processes_are_the_batch(images):
    parts = [
        next(iter(images.training_batches(torch.arange(12), range(3), **{**SETTINGS, "share": share})))
        for share in (WHOLE, slice(0, 2), slice(2, 5))
    ]
    for whole, first, second in zip(*parts, strict=True):
        assert torch.equal(torch.cat([first, second]), whole)


def test_another_augmentation_is_refused(images):
    with pytest.raises(
        ValueError, match=r"expected augment to be 'random_crop' for images read from files, got 'none'"
    ):
        next(iter(images.training_batches(torch.arange(12), range(3), **{**SETTINGS, "augment": "none"})))


@pytest.mark.parametrize("n_decoders", [0, 1])
def test_an_error_in_a_worker_is_one_line_that_names_the_file(n_decoders, images):
    (images.root / images.paths[7]).write_bytes(b"")
    with pytest.raises(ValueError, match=r"^expected \d+ bytes in val/n03/7.JPEG, got 0; fetch the data set again$"):
        list(images.training_batches(torch.arange(8), range(4), **{**SETTINGS, "n_decoders": n_decoders}))


# fault: /dev/shm of 64 MB
def test_decoders_need_no_shared_memory(images):
    """A limit on the size of files holds in /dev/shm as well."""
    expected = list(images.training_batches(torch.arange(8), range(2), **SETTINGS))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        batches = list(images.training_batches(torch.arange(8), range(2), **{**SETTINGS, "n_decoders": 1}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for (x, y), (x_expected, y_expected) in zip(batches, expected, strict=True):
        assert torch.equal(x, x_expected)
        assert torch.equal(y, y_expected)
        assert y.dtype == torch.int64


# ---- Real images --------------------------------------------------------------------------------------------------


@pytest.fixture
def sample(archive, tmp_path, monkeypatch) -> None:
    """Fetch the 203 full-size images, one a class, as the training and the test set of a user's ImageNet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBACC_WORKERS", "1")
    found = folders.entries(archive("imagenet-sample.tar.gz"), ["val"], LABELS)
    put({entry.path: entry.content for entry in found}, tmp_path / "mine")
    (tmp_path / "mine/train").symlink_to(tmp_path / "mine/val")
    monkeypatch.setenv("ROBACC_IMAGENET", str(tmp_path / "mine"))
    fetch.main(Namespace(dataset="restricted_imagenet"))


def test_all_203_classes_go_through(sample):
    images = loading.load(Path("data/restricted_imagenet/test.safetensors"))
    assert images.missing == ()
    counts = torch.bincount(images.y).tolist()
    assert counts == [len(indices) for indices in SUPER_CLASSES.values()]
    for indices in torch.arange(203).split(64):
        x, _ = images.batch(indices)
        assert x.shape[1:] == (3, 224, 224)
        assert x.min() >= 0
        assert x.max() <= 1
        assert x.flatten(1).std(1).min() > 0.05  # a picture, not a blank


def test_the_papers_recipe_trains_on_them(sample):
    """Two steps of two images instead of 33,000 of 256, with one attack step; everything else as it stands."""
    path = Path("data/restricted_imagenet/train.safetensors")
    recipe = params.load(ROOT / "params.yaml").recipes["restricted-imagenet-paper"].model_dump()
    recipe = Recipe(**recipe | {"steps": [[1, 2]], "batch_size": 2, "attack_steps": 1, "attack_step_size": 1.0})
    steps: list[int] = []
    file, is_new = store.train_one(
        Job(Ball("l2", 1.0), 203, 0),
        steps.append,
        train_set=path,
        recipe=recipe,
        settings={"log_every": 1, "checkpoint_every": 1, "hardware": "cpu", "n_decoders": 1},
        checkpoints=Path("checkpoints"),
        code=store.training_code(recipe, loading.load(path)),
    )
    assert is_new
    assert sum(steps) == 2
    model, spec = nets.load(file)
    assert spec["data"] == loading.load(path).sha256
    assert [row["step"] for row in spec["log"]] == [1, 2]
    x, _ = loading.load(Path("data/restricted_imagenet/test.safetensors")).first(2)
    with torch.no_grad():
        logits = model(x)
    assert logits.shape == (2, 9)
    assert logits.isfinite().all()
