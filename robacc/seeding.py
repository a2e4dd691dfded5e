"""Derive random generators from names, so that the order of draws does not matter."""

import hashlib

import torch


def derive(seed: int, *path: int | str) -> int:
    """Return the 63-bit seed for `path` in the run with `seed`.

    Different paths give unrelated seeds. So a job's shuffling, random starts and initial weights never share a stream.
    A resumed job derives the same seeds again.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *path: int | str) -> torch.Generator:
    """Return a CPU generator seeded with `derive(seed, *path)`."""
    return torch.Generator().manual_seed(derive(seed, *path))
