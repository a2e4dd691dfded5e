"""Random generators that depend on names, not on the order in which things run."""

import hashlib

import torch


def derive(seed: int, *path: int | str) -> int:
    """Return the 63-bit seed of the place `path` in the run with `seed`.

    Different paths give unrelated seeds, so a job's shuffling, its random starts and its
    initial weights never share a stream, and a resumed job finds its place again.
    """
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *path: int | str) -> torch.Generator:
    """Return a CPU generator seeded with `derive(seed, *path)`."""
    return torch.Generator().manual_seed(derive(seed, *path))
