"""Crop and flip: against a plain loop, and as a function of the generator alone."""

import pytest
import torch
from torch import Tensor

from robacc.images.augment import crop_and_flip
from robacc.seeding import generator


def images(n: int = 64) -> Tensor:
    """Images whose pixels are all different and none 0, so that a pixel tells where it came from."""
    return (torch.arange(n * 3 * 6 * 8).reshape(n, 3, 6, 8) + 1) / (n * 3 * 6 * 8)


def place(image: Tensor, cropped: Tensor, padding: int) -> tuple[int, int, bool]:
    """Find which crop of the padded image `cropped` is, trying them all; exactly one must fit."""
    height, width = image.shape[1:]
    padded = torch.zeros(3, height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    found = [
        (top, left, flip)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        for flip in (False, True)
        if torch.equal(cropped.flip(2) if flip else cropped, padded[:, top : top + height, left : left + width])
    ]
    assert len(found) == 1
    return found[0]


def test_every_image_is_a_crop_of_itself_padded_with_zeros():
    x = images()
    out = crop_and_flip(x, 2, generator(0))
    places = [place(image, cropped, 2) for image, cropped in zip(x, out, strict=True)]
    tops, lefts, flips = (set(values) for values in zip(*places, strict=True))
    assert (tops, lefts, flips) == (set(range(5)), set(range(5)), {False, True})
    assert len(set(places)) > 25  # each image its own draw, of 50 that there are


def test_draws_are_uniform():
    x = images(1).expand(5000, -1, -1, -1)
    out = crop_and_flip(x, 1, generator(1))
    counts = out.flatten(1).unique(dim=0, return_counts=True)[1]
    assert len(counts) == 3 * 3 * 2
    assert (counts - 5000 / 18).abs().max() < 5 * (5000 / 18) ** 0.5


def test_without_padding_only_flips_are_left():
    x = images()
    out = crop_and_flip(x, 0, generator(0))
    same = (out == x).flatten(1).all(1)
    assert torch.equal(out[~same], x[~same].flip(3))
    assert 16 < same.sum() < 48


def test_it_is_a_function_of_the_generator_alone():
    # trap 25, trap 26
    x = images()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = crop_and_flip(x, 2, generator(3, "augment", 7))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(crop_and_flip(x, 2, generator(3, "augment", 7)), first)
    assert not torch.equal(crop_and_flip(x, 2, generator(3, "augment", 8)), first)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pixels_stay_in_the_box_and_the_input_as_it_was(memory_format):
    # trap 30
    x = images().contiguous(memory_format=memory_format)
    copy = x.clone()
    out = crop_and_flip(x, 2, generator(0))
    assert out.shape == x.shape
    assert out.dtype == torch.float32
    assert out.min() == 0
    assert out.max() <= 1
    assert torch.equal(x, copy)
    assert torch.equal(out, crop_and_flip(copy.contiguous(), 2, generator(0)))
