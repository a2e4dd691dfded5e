"""Choose the images that stand for a whole set where an attack on all of it costs too much.

Training does not import this module. So a change here retrains no model.
"""

from functools import lru_cache
from heapq import heappop, heappush

import torch
from torch import Tensor

from robacc.seeding import generator


def balanced_order(y: Tensor, *, seed: int) -> Tensor:
    """Return a random order of all examples labelled `y` [N], whose every prefix is balanced: indices [N], int64.

    In the first n, the count of each class differs from n times its share of the whole set by less than one. So samples
    of one seed are nested, whatever their size. Which example of a class comes next is random. So is which of equally
    frequent classes comes first.

    A prefix is a stratified sample with proportional allocation, without replacement (Cochran 1977, chapter 5). So the
    plain share of right examples in it is an unbiased estimate of the accuracy on the whole set. The rounding of each
    class to whole examples is the exception. With equal counts of unequal classes the plain share would be biased. Its
    variance is below that of independent draws. So a binomial interval covers the whole set's value as often as it
    says, or more often, up to the steps of a count.
    """
    y, draws = y.cpu(), generator(seed, "sample")
    shuffled, labels = torch.randperm(len(y), generator=draws), y.unique()
    labels = labels[torch.randperm(len(labels), generator=draws)]
    members = sorted((shuffled[y[shuffled] == label] for label in labels), key=len)
    turns, order = _turns(tuple(map(len, members))), torch.empty(len(y), dtype=torch.int64)
    for rank, of_class in enumerate(members):
        order[turns == rank] = of_class
    return order


@lru_cache(maxsize=8)  # a run has few sets, and asks for each of them many times
def _turns(counts: tuple[int, ...]) -> Tensor:
    """Return which class has each place of a balanced order, [sum(counts)].

    The next place of a class may come once its count stays below its share plus one. It is due before the count falls a
    whole example behind. Taking what is due first among what may come meets every due time (Steiner & Yeomans 1993).
    """
    n_all = sum(counts)
    coming: list[list[tuple[float, int]]] = [[] for _ in range(n_all)]  # for each place the (due, class) from it on
    for rank, n in enumerate(counts):
        for k in range(n):
            coming[k * n_all // n].append(((k + 1) * n_all / n, rank))
    turns: list[int] = []
    ready: list[tuple[float, int]] = []
    for places in coming:
        for place in places:
            heappush(ready, place)
        turns.append(heappop(ready)[1])
    return torch.tensor(turns)
