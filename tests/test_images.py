"""The nested subsets, the order of batches, and the files of images."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robacc.files import read_tensors
from robacc.images import in_memory, loading
from robacc.images.batches import batch_indices, nested_subset, subset_hash
from robacc.images.in_memory import Images


def labels(n: int = 200, n_classes: int = 10) -> Tensor:
    return torch.tensor(np.random.default_rng(0).integers(n_classes, size=n))


def images(n: int = 12) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    return torch.tensor(rng.integers(256, size=(n, 1, 5, 5)), dtype=torch.uint8), torch.arange(n) % 10


# ---- Subsets ------------------------------------------------------------------------------------------------------


@given(small=st.integers(1, 200), large=st.integers(1, 200), seed=st.integers(0, 3))
def test_subsets_are_nested_and_without_repetition(small, large, seed):
    # trap 27
    small, large = sorted([small, large])
    inner, outer = (nested_subset(labels(), n, seed=seed) for n in (small, large))
    assert torch.equal(outer[:small], inner)
    assert len(set(outer.tolist())) == large


@pytest.mark.parametrize("n", [1, 7, 10, 23, 50, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_subsets_are_balanced_within_one(n, seed):
    # trap 27
    y = torch.arange(200) % 10
    counts = torch.bincount(y[nested_subset(y, n, seed=seed)], minlength=10)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1


def test_a_class_that_runs_out_gives_all_it_has():
    y = torch.tensor([0] * 3 + [1] * 97)
    assert torch.bincount(y[nested_subset(y, 50, seed=0)]).tolist() == [3, 47]


def test_the_largest_subset_is_everything():
    assert torch.equal(nested_subset(labels(), 200, seed=0).sort().values, torch.arange(200))


def test_subsets_are_a_function_of_the_seed_alone():
    # trap 25, trap 27
    torch.manual_seed(0)
    first = nested_subset(labels(), 30, seed=4)
    torch.manual_seed(1)
    assert torch.equal(nested_subset(labels(), 30, seed=4), first)
    assert not torch.equal(nested_subset(labels(), 30, seed=5), first)


@pytest.mark.parametrize("n", [0, -1, 201])
def test_impossible_sizes_are_refused(n):
    with pytest.raises(ValueError, match=f"expected a training-set size between 1 and 200, got {n}"):
        nested_subset(labels(), n, seed=0)


def test_subset_hash_is_of_the_indices_in_their_order():
    # trap 27
    indices = torch.tensor([3, 1, 2])
    assert subset_hash(indices) == hashlib.sha256(np.array([3, 1, 2], dtype=np.int64).tobytes()).hexdigest()
    assert subset_hash(indices) != subset_hash(torch.tensor([1, 2, 3]))


# ---- Batches ------------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 40), batch_size=st.integers(1, 50), n_epochs=st.integers(1, 4))
def test_every_epoch_is_a_permutation_and_every_batch_is_full(n, batch_size, n_epochs):
    # trap 28, trap 31: also where a batch is larger than the set
    indices = torch.arange(n) * 7 + 3
    n_steps = -(-n * n_epochs // batch_size)
    batches = [batch_indices(indices, step, batch_size, seed=0) for step in range(n_steps)]
    assert all(len(batch) == batch_size for batch in batches)
    stream = torch.cat(batches)
    for epoch in range(n_epochs):
        assert torch.equal(stream[epoch * n : (epoch + 1) * n].sort().values, indices)


def test_epochs_and_seeds_have_different_orders():
    indices = torch.arange(100)
    epochs = [batch_indices(indices, step, 100, seed=seed) for step, seed in [(0, 0), (1, 0), (0, 1)]]
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])


def test_a_batch_is_a_function_of_the_step_alone():
    # trap 26
    indices = torch.arange(30)
    forwards = [batch_indices(indices, step, 8, seed=0) for step in range(10)]
    torch.manual_seed(5)
    backwards = [batch_indices(indices, step, 8, seed=0) for step in reversed(range(10))]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


# ---- Images and files ---------------------------------------------------------------------------------------------


def test_batches_are_float_in_the_box():
    # trap 22, trap 24
    x, y = images()
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 0, 255
    floats, labels = Images(x, y, "").batch(torch.tensor([5, 0]))
    assert floats.dtype == torch.float32
    np.testing.assert_array_equal(floats.numpy(), x[[5, 0]].numpy() / np.float32(255))
    assert (floats[1, 0, 0, 0], floats[1, 0, 0, 1]) == (0.0, 1.0)
    assert labels.tolist() == [5, 0]


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (5, 5), (12, 12), (99, 12), (None, 12)])
def test_first_is_the_first(n, expected):
    x, y = images()
    floats, labels = Images(x, y, "").first(n)
    assert torch.equal(floats, x[:expected].float() / 255)
    assert torch.equal(labels, y[:expected])


def test_what_is_saved_is_loaded(tmp_path):
    x, y = images()
    in_memory.save(x, y, tmp_path / "set.safetensors")
    loaded = loading.load(tmp_path / "set.safetensors")
    assert torch.equal(loaded.x, x)
    assert torch.equal(loaded.y, y)
    assert len(loaded) == 12
    assert loaded.sha256 == hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()


def test_the_source_and_what_it_lacks_are_kept_and_change_no_hash(tmp_path):
    x, y = images()
    in_memory.save(x, y, tmp_path / "plain.safetensors")
    in_memory.save(x, y, tmp_path / "told.safetensors", source="user's JPEG tree", missing=["n01", "n02"])
    plain, told = loading.load(tmp_path / "plain.safetensors"), loading.load(tmp_path / "told.safetensors")
    assert (plain.source, plain.missing) == ("", ())
    assert (told.source, told.missing) == ("user's JPEG tree", ("n01", "n02"))
    assert told.sha256 == plain.sha256
    # The file of a set that has no source to tell, such as MNIST, says nothing of one.
    assert read_tensors(tmp_path / "plain.safetensors")[1] == {"sha256": plain.sha256}


@pytest.mark.parametrize(
    ("x_dtype", "y_dtype", "n_labels"),
    [(torch.float32, torch.int64, 12), (torch.uint8, torch.int32, 12), (torch.uint8, torch.int64, 11)],
)
def test_wrong_types_and_lengths_are_not_saved(x_dtype, y_dtype, n_labels, tmp_path):
    # trap 24
    x, y = images()
    with pytest.raises(ValueError, match="expected uint8 images and as many int64 labels, got"):
        in_memory.save(x.to(x_dtype), y[:n_labels].to(y_dtype), tmp_path / "set.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_set_is_read_once_and_again_when_its_file_has_changed(tmp_path):
    path = tmp_path / "set.safetensors"
    x, y = images()
    in_memory.save(x, y, path)
    first = loading.load(path)
    assert loading.load(path) is first
    in_memory.save(255 - x, y, path)
    assert torch.equal(loading.load(path).x, 255 - x)


def test_a_missing_set_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        loading.load(tmp_path / "set.safetensors")
