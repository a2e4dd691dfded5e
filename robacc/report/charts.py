"""Draw curves as HTML and SVG that take their colours from the page, fit every screen and tell their values.

Positions are percentages of the plot. Lines are stretched with it, while text, marks and strokes keep their size. A
script shows the values under the pointer; without it the curves still stand there, and their table is beside them.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from robacc.report import legends

SHAPES = (
    "M-3.5,0a3.5,3.5 0 1 0 7,0a3.5,3.5 0 1 0 -7,0",
    "M-3.2,-3.2H3.2V3.2H-3.2Z",
    "M0,-4.2L4,3H-4Z",
    "M0,-4.5L4,0L0,4.5L-4,0Z",
    "M0,4.2L4,-3H-4Z",
    "M-4,-1.5H-1.5V-4H1.5V-1.5H4V1.5H1.5V4H-1.5V1.5H-4Z",
    "M-4,-3H4L2,4H-2Z",
)
# Of points without a line; the diamond is that of published numbers in the ledger too.
CROSS = "M-3.5,-3.5L3.5,3.5M-3.5,3.5L3.5,-3.5"
DIAMOND = "M0,-5L4,0L0,5L-4,0Z"


@dataclass(frozen=True)
class Series:
    """A curve of shares: `low` and `high` are its band, `look` its colour and shape.

    With a `mark` it is points alone, each an outline of that shape.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default_factory=list)
    high: Sequence[float] = field(default_factory=list)
    look: int = 0
    mark: str = ""

    @property
    def is_line(self) -> bool:
        """Whether there is a line to draw; a series without points has a place in the legend alone."""
        return not self.mark and len(self.x) > 0


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return about `n` round numbers from `low` to `high`."""
    raw = (high - low) / n
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [
        round(step * index, 10) for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def _limits(series: list[Series]) -> tuple[float, float]:
    values = np.concatenate([np.r_[each.y, each.low, each.high] for each in series])
    low, high = float(values.min()), float(values.max())
    pad = max(0.04 * (high - low), 1e-3)
    return low - pad, high + pad


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.2f} %"


def described(title: str, series: list[Series], x_text: Callable[[float], str]) -> str:
    """Return what a chart shows: for each curve where it begins and ends."""
    parts = [
        f"{each.name} from {percent(each.y[0])} at {x_text(each.x[0])} to {percent(each.y[-1])} at {x_text(each.x[-1])}"
        for each in series
        if each.is_line
    ]
    return f"Curves of {title}: {'; '.join(parts)}."


@dataclass(frozen=True)
class Frame:
    """The axes of a plot: `left` and `top` give positions in percent of it."""

    xs: list[float]
    low: float
    high: float
    log: bool

    def left(self, x: float) -> float:
        """Return the position of an x, with room for marks on both sides."""
        start, end, at = (math.log(value) if self.log else value for value in (self.xs[0], self.xs[-1], x))
        return round(3 + 94 * (at - start) / ((end - start) or 1.0), 2)

    def top(self, y: float) -> float:
        """Return the position of a share."""
        return round(100 * (self.high - y) / (self.high - self.low), 2)

    def path(self, x: Sequence[float], y: Sequence[float]) -> list[str]:
        """Return the points of a path."""
        return [f"{self.left(one)},{self.top(other)}" for one, other in zip(x, y, strict=True)]


def chart(
    title: str,
    series: list[Series],
    *,
    x_label: str,
    x_text: Callable[[float], str] = "{:g}".format,
    log: bool = False,
    box: bool = False,
) -> Markup:
    """Return a chart of shares, with a tick at each x. `box` fixes the axis at 0 to 100 %."""
    xs = sorted({float(x) for each in series if each.is_line for x in each.x})
    low, high = (-0.02, 1.02) if box else _limits(series)
    frame = Frame(xs, low, high, log)
    said, values = escape(described(title, series, x_text)), _values(series, frame, x_label, x_text)
    return Markup(
        f'<div class="chart" data-values="{escape(json.dumps(values))}"><p class="title">{escape(title)}, %</p>'
        f'<div class="plot"><svg class="lines" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'{_lines(series, frame)}</svg><svg class="marks" role="img" aria-label="{said}">{_marks(series, frame)}</svg>'
        f'{_ticks(frame, x_text)}</div><p class="x-label">{escape(x_label)}</p>'
        f'<ul class="legend">{_legend(series)}</ul></div>'
    )


def _colour(series: Series) -> str:
    return f"s{legends.colour(series.look)}"


def _name(series: Series) -> str:
    return f"{_colour(series)} outline" if series.mark else _colour(series)


def _shape(series: Series) -> str:
    return f'<path d="{series.mark or SHAPES[series.look % len(SHAPES)]}"/>'


def _lines(series: list[Series], frame: Frame) -> str:
    parts = [f'<path class="grid" d="M0,{frame.top(y)}H100"/>' for y in ticks(frame.low, frame.high)]
    curves = [each for each in series if each.is_line]
    for each in curves:
        if len(each.low):
            around = frame.path(each.x, each.high) + frame.path(each.x, each.low)[::-1]
            parts.append(f'<path class="band {_colour(each)}" d="M{"L".join(around)}Z"/>')
    parts += [f'<path class="line {_colour(each)}" d="M{"L".join(frame.path(each.x, each.y))}"/>' for each in curves]
    return "".join(parts)


def _marks(series: list[Series], frame: Frame) -> str:
    return "".join(
        f'<svg class="{_name(each)}" x="{frame.left(x)}%" y="{frame.top(y)}%" overflow="visible">{_shape(each)}</svg>'
        for each in series
        for x, y in zip(each.x, each.y, strict=True)
    )


def _ticks(frame: Frame, x_text: Callable[[float], str]) -> str:
    parts = [
        f'<span class="tick y" style="top:{frame.top(y)}%">{100 * y:g}</span>' for y in ticks(frame.low, frame.high)
    ]
    parts += [
        f'<span class="tick x" style="left:{frame.left(x)}%">{escape(x_text(x))}</span>'
        for x in _apart(frame.xs, frame.left)
    ]
    return "".join(parts)


def _legend(series: list[Series]) -> str:
    sized = 'width="14" height="12" viewBox="-7 -6 14 12" aria-hidden="true"'
    return "".join(
        f'<li><svg class="{_name(each)}" {sized}>{_shape(each)}</svg>{escape(each.name)}</li>' for each in series
    )


def _values(series: list[Series], frame: Frame, x_label: str, x_text: Callable[[float], str]) -> list[dict]:
    """Return what the script shows at each x: its position, its words, and the values of the curves."""

    def at(x: float) -> list[list]:
        curves = [each for each in series if each.is_line and x in each.x]
        return [[_colour(each), each.name, percent(each.y[list(each.x).index(x)])] for each in curves]

    return [{"at": frame.left(x), "x": f"{x_label}: {x_text(x)}", "values": at(x)} for x in frame.xs]


def _apart(xs: list[float], left: Callable[[float], float], least: float = 9.0) -> list[float]:
    """Return the ticks that have room for their labels, the last one among them."""
    kept: list[float] = []
    for x in reversed(xs):
        if not kept or left(kept[-1]) - left(x) >= least:
            kept.append(x)
    return kept[::-1]
