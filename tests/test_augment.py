"""Random crops and mirrored images."""

import torch

from robacc.augment import crop_and_flip
from robacc.seeding import generator


def test_every_image_is_one_of_the_crops_and_each_shift_occurs():
    x = torch.rand(400, 2, 5, 4, generator=generator(0))
    made = crop_and_flip(x, 1, generator(1))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    seen = set()
    for image, result in zip(padded, made, strict=True):
        found = [
            (top, left, flip)
            for top in range(3)
            for left in range(3)
            for flip in (False, True)
            if torch.equal(
                image[:, top : top + 5, left : left + 4].flip(2) if flip else image[:, top : top + 5, left : left + 4],
                result,
            )
        ]
        assert len(found) == 1
        seen |= set(found)
    assert len(seen) == 18


def test_the_generator_alone_decides():
    x = torch.rand(8, 3, 6, 6, generator=generator(0))
    assert torch.equal(crop_and_flip(x, 2, generator(1)), crop_and_flip(x, 2, generator(1)))
    assert not torch.equal(crop_and_flip(x, 2, generator(1)), crop_and_flip(x, 2, generator(2)))
