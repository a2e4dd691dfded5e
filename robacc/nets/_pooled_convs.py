"""Blocks of convolution, max-pooling and ReLU for CPUs, compiled by Numba.

PyTorch's own kernels reach a sixth of the speed of a matrix product where channels are few. Here `LANES` images lie
side by side in memory, and an instruction works on one pixel of several of them. The order of all sums is fixed.
"""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy import float32, uint8, uint64
from torch import Tensor
from torch.autograd.function import once_differentiable

VECTOR = 8
LANES = 7 * VECTOR  # images side by side; two times for the batch of 100 that training has
# Numba takes a signed index for one that may count from the end, which is slow.
ONE, TWO, THREE, FOUR, NINE = map(uint64, (1, 2, 3, 4, 9))
ZERO, OFF = float32(0), uint8(4)


def _compiled(function: Callable) -> Callable:
    """Compile `function` at its first call, and keep the machine code on disk where a folder can be written.

    A product and its sum are rounded once, where the processor can do so. Nothing else changes the rounding.
    """
    try:
        return numba.njit(function, fastmath={"contract"}, cache=True)
    except RuntimeError:  # no folder for it
        return numba.njit(function, fastmath={"contract"})


Sizes = tuple[uint64, ...]


def _sizes(c_in: int, c_out: int, side: int) -> Sizes:
    """Return the loops' ends, and the steps from row to row and from channel to channel, of x and of the result.

    As constants of the compiled functions they make these four times as fast.
    """
    wide, half = side + 2, side // 2 + 2
    steps = (wide * LANES, wide**2 * LANES, half * LANES, half**2 * LANES)
    return tuple(map(uint64, (c_in, c_out, side // 2, LANES, *steps)))


def _forward(sizes: Sizes) -> Callable:
    n_in, n_out, n_half, lanes, row, plane, out_row, out_plane = sizes

    @_compiled
    def forward(x, w, b, used, out, chosen):  # noqa: ANN001, ANN202
        sums = np.empty(4 * LANES, np.float32)  # of the four pixels in a window
        for i in range(n_half):
            for j in range(n_half):
                for o in range(n_out):
                    sums[:] = b[o]
                    for c in range(n_in):
                        at, q = c * plane + TWO * i * row + TWO * j * lanes, (o * n_in + c) * NINE
                        for n in range(used):
                            s0, s1, s2, s3 = sums[n], sums[lanes + n], sums[TWO * lanes + n], sums[THREE * lanes + n]
                            for r in range(THREE):
                                for s in range(THREE):
                                    v, p = w[q + THREE * r + s], at + r * row + s * lanes + n
                                    s0 += v * x[p]
                                    s1 += v * x[p + lanes]
                                    s2 += v * x[p + row]
                                    s3 += v * x[p + row + lanes]
                            sums[n], sums[lanes + n], sums[TWO * lanes + n], sums[THREE * lanes + n] = s0, s1, s2, s3
                    p = o * out_plane + (i + ONE) * out_row + (j + ONE) * lanes
                    k = ((o * n_half + i) * n_half + j) * lanes
                    for n in range(used):
                        largest, which = sums[n], uint8(0)
                        for f in range(ONE, FOUR):
                            value = sums[f * lanes + n]
                            if value > largest or value != value:  # noqa: PLR0124 (NaN)
                                largest, which = value, uint8(f)
                        if largest <= ZERO:
                            largest, which = ZERO, OFF
                        out[p + n], chosen[k + n] = largest, which

    return forward


def _inputs(sizes: Sizes) -> Callable:
    n_in, n_out, n_half, lanes, row, plane, out_row, out_plane = sizes
    n_parts = int(FOUR * n_out * lanes)

    @_compiled
    def inputs(grad, chosen, w, used, dx):  # noqa: ANN001, ANN202, PLR0912
        parts = np.empty(n_parts, np.float32)  # of the gradient, at the four pixels in a window
        dx[:] = ZERO
        for i in range(n_half):
            for j in range(n_half):
                for o in range(n_out):
                    p = o * out_plane + (i + ONE) * out_row + (j + ONE) * lanes
                    k = ((o * n_half + i) * n_half + j) * lanes
                    for f in range(FOUR):
                        for n in range(used):
                            parts[(FOUR * o + f) * lanes + n] = grad[p + n] if chosen[k + n] == uint8(f) else ZERO
                for c in range(n_in):
                    at = c * plane + TWO * i * row + TWO * j * lanes
                    for o in range(n_out):
                        q = (o * n_in + c) * NINE
                        for n in range(used):
                            for r in range(FOUR):
                                for s in range(FOUR):
                                    total = dx[at + r * row + s * lanes + n]
                                    for a in range(TWO):
                                        for e in range(TWO):
                                            if a <= r <= a + TWO and e <= s <= e + TWO:
                                                part = parts[(FOUR * o + TWO * a + e) * lanes + n]
                                                total += w[q + THREE * (r - a) + (s - e)] * part
                                    dx[at + r * row + s * lanes + n] = total

    return inputs


def _parameters(sizes: Sizes) -> Callable:
    n_in, n_out, n_half, lanes, row, plane, out_row, out_plane = sizes
    n_parts = int(FOUR * n_half * n_half * lanes)

    @_compiled
    def parameters(grad, chosen, x, used, dw, db):  # noqa: ANN001, ANN202, PLR0912
        parts = np.empty(n_parts, np.float32)  # of the gradient of one channel, at the four pixels of each window
        sums = np.empty(9 * LANES, np.float32)
        for o in range(n_out):
            sums[:] = ZERO
            for i in range(n_half):
                for j in range(n_half):
                    p = o * out_plane + (i + ONE) * out_row + (j + ONE) * lanes
                    k = ((o * n_half + i) * n_half + j) * lanes
                    for f in range(FOUR):
                        at = ((i * n_half + j) * FOUR + f) * lanes
                        for n in range(used):
                            part = grad[p + n] if chosen[k + n] == uint8(f) else ZERO
                            parts[at + n] = part
                            sums[n] += part
            for n in range(used):
                db[o] += sums[n]
            for c in range(n_in):
                sums[:] = ZERO
                for i in range(n_half):
                    for j in range(n_half):
                        at, k = c * plane + TWO * i * row + TWO * j * lanes, (i * n_half + j) * FOUR * lanes
                        for n in range(used):
                            p0, p1 = parts[k + n], parts[k + lanes + n]
                            p2, p3 = parts[k + TWO * lanes + n], parts[k + THREE * lanes + n]
                            for r in range(THREE):
                                for s in range(THREE):
                                    p = at + r * row + s * lanes + n
                                    total = sums[(THREE * r + s) * lanes + n]
                                    total += p0 * x[p] + p1 * x[p + lanes]
                                    total += p2 * x[p + row] + p3 * x[p + row + lanes]
                                    sums[(THREE * r + s) * lanes + n] = total
                for t in range(NINE):
                    for n in range(used):
                        dw[(o * n_in + c) * NINE + t] += sums[t * lanes + n]

    return parameters


class Block(NamedTuple):
    """The compiled functions of one block, and the shapes of its arrays without the lanes.

    Each array is flat and has `LANES` images innermost, of which the first `used` are computed.

    | array | shape | |
    |---|---|---|
    | `x` | [C, S + 2, S + 2] | has a border of zeros |
    | `out` | [out, S / 2 + 2, S / 2 + 2] | has a border of zeros |
    | `grad` | that of `out` | its border is not read |
    | `chosen` | [out, S / 2, S / 2] | the pixel of each 2x2 window that the pooling took; `OFF` where the ReLU is 0 |
    """

    forward: Callable  # (x, w, b, used, out, chosen)
    inputs: Callable  # (grad, chosen, w, used, dx): writes the gradient of x
    parameters: Callable  # (grad, chosen, x, used, dw, db): adds to the gradients of w and b
    x: tuple[int, int, int]
    out: tuple[int, int, int]
    chosen: tuple[int, int, int]


@lru_cache
def block(c_in: int, c_out: int, side: int) -> Block:
    """Return the block of a 3x3 convolution with padding 1, a 2x2 max-pooling and a ReLU, on `side` x `side` pixels."""
    sizes, half = _sizes(c_in, c_out, side), side // 2
    shapes = (c_in, side + 2, side + 2), (c_out, half + 2, half + 2), (c_out, half, half)
    return Block(_forward(sizes), _inputs(sizes), _parameters(sizes), *shapes)


class _Scratch(threading.local):
    """Arrays that every call uses again. New ones would cost a quarter of the time, as they are in no cache."""

    def __init__(self) -> None:
        self.arrays: dict[tuple, Tensor] = {}

    def get(self, use: str, shape: tuple[int, int, int]) -> Tensor:
        """Return the lanes of `shape` for `use`, which are zero at first."""
        key = use, shape
        if key not in self.arrays:
            self.arrays[key] = torch.zeros(*shape, LANES)
        return self.arrays[key]


_scratch = _Scratch()


class PooledConvs(torch.autograd.Function):
    """Blocks of a 3x3 convolution, a 2x2 max-pooling and a ReLU, one after another."""

    @staticmethod
    def forward(
        ctx,  # noqa: ANN001
        x: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        """Map x [B, C, S, S] to [B, out, S / 2^n, S / 2^n], channels-last; a block has two `parameters`, w and b."""
        flat = [_flat(parameter.detach().contiguous()) for parameter in parameters]
        sides = [x.shape[-1] >> n for n in range(len(flat) // 2)]
        blocks = [block(w.shape[1], w.shape[0], side) for w, side in zip(parameters[::2], sides, strict=True)]
        channels, height, width = blocks[-1].chosen
        y = x.new_empty(len(x), height, width, channels)
        trains = any(ctx.needs_input_grad[1:])
        ctx.x_shape, ctx.shapes, ctx.parts = x.shape, [parameter.shape for parameter in parameters], []
        for part, result in zip(x.split(LANES), y.split(LANES), strict=True):
            lanes, steps = _to_lanes(_scratch.get("x", blocks[0].x), part), []
            for one, w, b in zip(blocks, flat[::2], flat[1::2], strict=True):
                out, chosen = _scratch.get("out", one.out), np.empty(np.prod(one.chosen) * LANES, uint8)
                one.forward(_flat(lanes), w, b, _used(part), _flat(out), chosen)
                steps.append((one, _flat(lanes.clone()) if trains else None, w, chosen))
                lanes = out
            result.copy_(_inside(lanes, len(part)).permute(3, 1, 2, 0))
            ctx.parts.append(steps)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
        """Return the gradients of x and of the parameters, as far as they are asked for."""
        for_x, trains = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:])
        dx = grad.new_empty(ctx.x_shape) if for_x else None
        found = [grad.new_zeros(shape) if trains else None for shape in ctx.shapes]
        for index, (part, steps) in enumerate(zip(grad.split(LANES), ctx.parts, strict=True)):
            lanes, used = _to_lanes(_scratch.get("grad", steps[-1][0].out), part), _used(part)
            for n, (one, x, w, chosen) in reversed(list(enumerate(steps))):
                if trains:
                    one.parameters(_flat(lanes), chosen, x, used, _flat(found[2 * n]), _flat(found[2 * n + 1]))
                if n or for_x:
                    before = _scratch.get("grad", one.x)
                    one.inputs(_flat(lanes), chosen, w, used, _flat(before))
                    lanes = before
            if dx is not None:
                dx[index * LANES :][: len(part)] = _inside(lanes, len(part)).permute(3, 0, 1, 2)
        return dx, *found


def _flat(x: Tensor) -> np.ndarray:
    return x.numpy().reshape(-1)


def _used(x: Tensor) -> uint64:
    """Return the number of lanes for images x [n, ...], in whole vectors."""
    return uint64(-(-len(x) // VECTOR) * VECTOR)


def _inside(lanes: Tensor, n: int) -> Tensor:
    """Return the first `n` images of lanes [C, S + 2, S + 2, LANES], without their border, [C, S, S, n]."""
    return lanes[:, 1:-1, 1:-1, :n]


def _to_lanes(lanes: Tensor, x: Tensor) -> Tensor:
    """Copy images x [n, C, S, S], n at most LANES, into `lanes` [C, S + 2, S + 2, LANES], and return these."""
    lanes[..., len(x) : int(_used(x))] = 0
    _inside(lanes, len(x)).copy_(x.permute(1, 2, 3, 0))
    return lanes
