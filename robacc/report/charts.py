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

SHAPES = (
    "M-3.5,0a3.5,3.5 0 1 0 7,0a3.5,3.5 0 1 0 -7,0",
    "M-3.2,-3.2H3.2V3.2H-3.2Z",
    "M0,-4.2L4,3H-4Z",
    "M0,-4.5L4,0L0,4.5L-4,0Z",
    "M0,4.2L4,-3H-4Z",
    "M-4,-1.5H-1.5V-4H1.5V-1.5H4V1.5H1.5V4H-1.5V1.5H-4Z",
    "M-4,-3H4L2,4H-2Z",
)
CROSS = "M-3.5,-3.5L3.5,3.5M-3.5,3.5L3.5,-3.5"


@dataclass(frozen=True)
class Series:
    """A curve of shares: `low` and `high` are its band. Without `line` it is points alone, drawn as crosses."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = field(default_factory=list)
    high: Sequence[float] = field(default_factory=list)
    line: bool = True


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
        if each.line
    ]
    return f"Curves of {title}: {'; '.join(parts)}."


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
    xs = sorted({float(x) for each in series if each.line for x in each.x})
    scaled = np.log(xs) if log else np.array(xs)
    start, width = float(scaled[0]), float(scaled[-1] - scaled[0]) or 1.0
    low, high = (-0.02, 1.02) if box else _limits(series)

    def left(x: float) -> float:
        return round(3 + 94 * ((math.log(x) if log else x) - start) / width, 2)

    def top(y: float) -> float:
        return round(100 * (high - y) / (high - low), 2)

    lines, marks = [], []
    y_ticks = ticks(low, high)
    lines += [f'<path class="grid" d="M0,{top(y)}H100"/>' for y in y_ticks]
    for index, each in enumerate(series):
        if each.line and len(each.low):
            there = [f"{left(x)},{top(y)}" for x, y in zip(each.x, each.high, strict=True)]
            back = [f"{left(x)},{top(y)}" for x, y in zip(each.x, each.low, strict=True)][::-1]
            lines.append(f'<path class="band s{index}" d="M{"L".join(there + back)}Z"/>')
    for index, each in enumerate(series):
        points = [(left(x), top(y)) for x, y in zip(each.x, each.y, strict=True)]
        if each.line:
            lines.append(f'<path class="line s{index}" d="M{"L".join(f"{x},{y}" for x, y in points)}"/>')
        shape = SHAPES[index % len(SHAPES)] if each.line else CROSS
        name = f"s{index}" if each.line else f"s{index} cross"
        marks += [
            f'<svg class="{name}" x="{x}%" y="{y}%" overflow="visible"><path d="{shape}"/></svg>' for x, y in points
        ]
    labels = [f'<span class="tick y" style="top:{top(y)}%">{100 * y:g}</span>' for y in y_ticks]
    labels += [f'<span class="tick x" style="left:{left(x)}%">{escape(x_text(x))}</span>' for x in _apart(xs, left)]
    sized = 'width="14" height="12" viewBox="-7 -6 14 12" aria-hidden="true"'
    legend = [
        f'<li><svg class="s{index}{"" if each.line else " cross"}" {sized}>'
        f'<path d="{SHAPES[index % len(SHAPES)] if each.line else CROSS}"/></svg>{escape(each.name)}</li>'
        for index, each in enumerate(series)
    ]
    values = [
        {
            "at": left(x),
            "x": f"{x_label}: {x_text(x)}",
            "values": [
                [index, each.name, percent(y)]
                for index, each in enumerate(series)
                for own, y in zip(each.x, each.y, strict=True)
                if own == x and each.line
            ],
        }
        for x in xs
    ]
    said = escape(described(title, series, x_text))
    return Markup(
        f'<div class="chart" data-values="{escape(json.dumps(values))}"><p class="title">{escape(title)}, %</p>'
        f'<div class="plot"><svg class="lines" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(lines)}</svg><svg class="marks" role="img" aria-label="{said}">{"".join(marks)}</svg>'
        f'{"".join(labels)}</div><p class="x-label">{escape(x_label)}</p>'
        f'<ul class="legend">{"".join(legend)}</ul></div>'
    )


def _apart(xs: list[float], left: Callable[[float], float], least: float = 9.0) -> list[float]:
    """Return the ticks that have room for their labels, the last one among them."""
    kept: list[float] = []
    for x in reversed(xs):
        if not kept or left(kept[-1]) - left(x) >= least:
            kept.append(x)
    return kept[::-1]
