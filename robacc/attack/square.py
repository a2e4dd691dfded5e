"""Run Square Attack (Andriushchenko et al. 2020): a random search that asks for logits and for no gradient.

It finds what a gradient hides. All functions take `x` [B, ...] float in [0, 1], and integer labels `y` [B]. B may be 0.
"""

import math

import torch
from torch import Tensor, nn

from robacc.attack.answers import check_numbers, guarded, margin
from robacc.attack.norms import Threat
from robacc.attack.pgd import feasible
from robacc.nets.model import frozen

SHARE = 0.8  # of the pixels, in the first windows
# The share is halved when these shares of the queries are over, as in the paper.
HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
TINY = 1e-12  # against 0 / 0


def stripes(x: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    """Return the start of the search: each column of each channel at random up or down, as far as ball and box allow.

    A vector is one row. Convolutions are sensitive to such stripes.
    """
    planes = _planes(x)
    signs = torch.rand(*planes.shape[:2], 1, planes.shape[3], generator=generator).round().mul(2).sub(1).to(x)
    return feasible(x + threat.step(signs.expand_as(planes).reshape(x.shape), threat.eps), x, threat)


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    start: Tensor,
    n_queries: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the point with the largest margin that the search finds, and that margin: [B, ...], [B].

    The model is asked `n_queries` times at most, first about `start`, which is in ball and box. Every later query
    changes a window, of each example its own, and is kept where the margin rises. A fooled example, of margin 0 or
    more, is asked about no more. An example's draws do not depend on which others are fooled. Raises
    FloatingPointError for NaN logits.
    """
    model, planes = guarded(model), _planes(x)
    propose = _raised if threat.norm == "linf" else _moved
    best = start.clone()
    with frozen(model), torch.no_grad():
        best_margin = margin(model(best), y)
        check_numbers(best_margin)
        for query in range(1, n_queries):
            draws = torch.rand(len(x), 4 + planes.shape[1], generator=generator).to(x)
            active = (best_margin < 0).nonzero()[:, 0]
            if not len(active):
                break
            area = SHARE / 2 ** sum(query > at * n_queries for at in HALVED_AT) * math.prod(planes.shape[2:])
            delta = _planes(best[active] - x[active])
            delta = propose(delta, area, threat.eps, draws[active], query)
            x_adv = feasible(x[active] + delta.reshape(x[active].shape), x[active], threat)
            found = margin(model(x_adv), y[active])
            check_numbers(found)
            better = found > best_margin[active]
            best[active[better]], best_margin[active[better]] = x_adv[better], found[better]
    return best, best_margin


def _planes(x: Tensor) -> Tensor:
    """Return images [B, C, H, W], [B, H, W] or [B, W] as [B, C, H, W]."""
    return x.reshape(len(x), math.prod(x.shape[1:-2]), *x.shape[-2:]) if x.ndim > 2 else x[:, None, None]


def _raised(delta: Tensor, area: float, eps: float, draws: Tensor, _: int) -> Tensor:
    """Return `delta` [B, C, H, W] with each channel of a window at eps or -eps, by chance."""
    height, width = _sides(delta, max(round(area**0.5), 1))
    window, _rows, _columns = _window(delta, height, width, draws[:, :2])
    return torch.where(window, eps * _signs(draws), delta)


def _moved(delta: Tensor, area: float, eps: float, draws: Tensor, query: int) -> Tensor:
    """Return `delta` [B, C, H, W], of length eps, with what was in two windows moved to one of them."""
    height, width = _sides(delta, max(round(area**0.5), 3) | 1)  # odd, so that a hill has one top
    window, rows, columns = _window(delta, height, width, draws[:, :2])
    other, _rows, _columns = _window(delta, height, width, draws[:, 2:4])
    shape = (_halves(height, width) if query % 2 else _halves(width, height).T).to(delta)
    old = delta * window
    new = shape[rows[:, :, None], columns[:, None]][:, None] * _signs(draws) + old / (_length(old) + TINY)
    new *= window
    unused = (eps**2 - delta.pow(2).sum((1, 2, 3), keepdim=True)).clamp_min(0) / delta.shape[1]
    length = (unused + _length(delta * (window | other)).pow(2)).sqrt()
    moved = torch.where(window, new / (_length(new) + TINY) * length, delta * ~other)
    return moved * (eps / (moved.pow(2).sum((1, 2, 3), keepdim=True).sqrt() + TINY))


def _sides(delta: Tensor, side: int) -> tuple[int, int]:
    """Return height and width of a square window, or of a longer one of that area in images that are too flat."""
    height = min(side, delta.shape[2])
    return height, min(round(side * side / height), delta.shape[3])


def _window(delta: Tensor, height: int, width: int, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a window for each example, bool [B, 1, H, W], and each pixel's row [B, H] and column [B, W] in it."""
    inside, places = [], []
    for size, extent, draw in zip((height, width), delta.shape[2:], draws.T, strict=True):
        first = (draw * (extent - size + 1)).long().clamp_max(extent - size)  # a float may round up to the end
        place = torch.arange(extent, device=delta.device) - first[:, None]
        inside.append((place >= 0) & (place < size))
        places.append(place.clamp(0, size - 1))
    return (inside[0][:, :, None] & inside[1][:, None])[:, None], places[0], places[1]


def _signs(draws: Tensor) -> Tensor:
    """Return 1 or -1 for each example and channel, [B, C, 1, 1]."""
    return draws[:, 4:, None, None].round().mul(2).sub(1)


def _length(parts: Tensor) -> Tensor:
    return parts.pow(2).sum((2, 3), keepdim=True).sqrt()


def _halves(height: int, width: int) -> Tensor:
    """Return a window of length 1 with a hill in the upper half and a valley in the lower, [height, width]."""

    def hill(height: int, width: int) -> Tensor:
        weights = 1 / torch.arange(1, max(height, width) // 2 + 2) ** 2
        row, column = ((torch.arange(extent) - extent // 2).abs() for extent in (height, width))
        ring = torch.maximum(row[:, None], column)
        hill = weights.flip(0).cumsum(0).flip(0)[ring]
        return hill / (hill.norm() + TINY)

    halves = torch.cat([hill(height // 2, width), -hill(height - height // 2, width)])
    return halves / halves.norm()
