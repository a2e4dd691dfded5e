"""Choose the images of training: the nested subsets of Figures 1 and 6, and the order of batches."""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from robacc.seeding import generator


def nested_subset(y: Tensor, n: int, *, seed: int) -> Tensor:
    """Return the indices of `n` of the examples labelled `y`, balanced and nested.

    They are the first n of one permutation, which takes a random example of each class in turn. So a larger subset
    contains every smaller one of the same seed. Class counts differ by at most one until a class has no more examples.
    Raises ValueError unless 1 <= n <= len(y).
    """
    if not 1 <= n <= len(y):
        raise ValueError(f"expected a training-set size between 1 and {len(y)}, got {n}")
    shuffled = torch.randperm(len(y), generator=generator(seed, "subset"))
    rank = torch.empty(len(y))
    for label in y.unique():
        members = shuffled[y[shuffled] == label]
        rank[members] = torch.arange(len(members)) + torch.rand(1, generator=generator(seed, "turn", int(label)))
    return rank.argsort(stable=True)[:n]


def subset_hash(indices: Tensor) -> str:
    """Return the SHA-256 of a subset's indices in their order."""
    return hashlib.sha256(indices.numpy().data).hexdigest()


def batch_indices(indices: Tensor, step: int, batch_size: int, *, seed: int) -> Tensor:
    """Return the batch of training step `step`: [batch_size] of `indices`.

    Every epoch has a new permutation of `indices`, and a batch may continue into the next epoch. So every batch is
    full, and a subset may be smaller than a batch. For one `seed` the batch depends only on the step. So a resumed run
    gets the batches of an uninterrupted one.
    """
    position = torch.arange(step * batch_size, (step + 1) * batch_size)
    epoch, offset = position // len(indices), position % len(indices)
    order = [_epoch_order(len(indices), int(e), seed)[offset[epoch == e]] for e in epoch.unique()]
    return indices[torch.cat(order)]


@lru_cache(maxsize=2)  # a step needs one order, or two where an epoch ends
def _epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=generator(seed, "epoch", epoch))
