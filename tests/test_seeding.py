"""Named random streams."""

import hashlib

import pytest
import torch

from robacc.seeding import derive, generator


def test_derived_seeds_are_fixed():
    # trap 25: a change of these values changes every result
    assert derive(0, "start", 3) == int.from_bytes(hashlib.sha256(b"(0, 'start', 3)").digest()[:8], "big") >> 1


@pytest.mark.parametrize("other", [(1, "start", 3), (0, "start", 4), (0, "epoch", 3), (0, "start"), (0, "start", "3")])
def test_other_places_have_other_streams(other):
    # trap 25
    first, second = (torch.rand(4, generator=generator(*place)) for place in ((0, "start", 3), other))
    assert not torch.equal(first, second)


def test_a_generator_does_not_touch_the_global_one():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    torch.rand(3, generator=generator(0, "noise"))
    assert torch.equal(torch.rand(3), expected)
