"""Draw effect sizes as rows of a forest plot, in SVG that takes its colours from the page.

Positions are percentages of the width, so a row fits every screen and its marks keep their size. An effect is a dict
with the fields of `robacc.paper.ledger.Effect`; above 0 is as the paper says.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from robacc.report import charts

UNIT = 0.001  # about linear below this, a tenth of a point, and logarithmic above
STEP = 15  # height of an effect, in pixels
TICKS = (0.001, 0.01, 0.1, 1.0)
# One shape a word, so that the word does not hang on colour.
MARKS = {
    "reproduced": "M-4.5,0a4.5,4.5 0 1 0 9,0a4.5,4.5 0 1 0 -9,0",
    "opposite": "M-4,-4L4,4M-4,4L4,-4",
    "equal": "M-4,-2.2H4M-4,2.2H4",
    "undecided": "M-4,0a4,4 0 1 0 8,0a4,4 0 1 0 -8,0",
}
PUBLISHED = charts.DIAMOND


@dataclass(frozen=True)
class Scale:
    """A symmetric logarithmic axis; `at` gives the position of a share in percent of the width."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the position of a share, kept within the axis."""
        share = (_log(value) - _log(self.low)) / (_log(self.high) - _log(self.low))
        return round(100 * min(max(share, 0.0), 1.0), 2)


def _log(value: float) -> float:
    return math.copysign(math.log10(1 + abs(value) / UNIT), value)


def scale(effects: Iterable[dict]) -> Scale:
    """Return an axis that has room for all effects, their intervals and margins, with 0 in it."""
    values = [-UNIT, UNIT]
    for effect in effects:
        values += [effect["value"], *(effect[end] for end in ("low", "high") if effect[end] is not None)]
        values += [effect["margin"], -effect["margin"], *effect["published"]]
    return Scale(1.5 * min(values), 1.5 * max(values))


def text(effect: dict) -> str:
    """Return an effect in words: where, how large, which word."""
    value, low, high = (None if effect[key] is None else 100 * effect[key] for key in ("value", "low", "high"))
    interval = "one seed, no interval" if low is None else f"[{low:.2f}, {high:.2f}], {effect['seeds']} seeds"
    others = [f"{100 * value:.2f}" for value in effect["published"]]
    published = f"; published: {', '.join(others)}" if others else ""
    return f"{effect['place']}: {value:.2f} points {interval}, {effect['verdict']}{published}"


def row(effects: list[dict], axis: Scale) -> Markup:
    """Return a row: for each effect its margin, its interval, its mark, and the published values."""
    parts = [f'<line class="zero" x1="{axis.at(0)}%" x2="{axis.at(0)}%" y1="0" y2="100%"/>']
    for index, effect in enumerate(effects):
        y, word = STEP * index + STEP / 2 + 1, effect["verdict"].replace(" ", "-")
        left, right = axis.at(-effect["margin"]), axis.at(effect["margin"])
        band = f'<rect class="margin" x="{left}%" y="{y - STEP / 2}" width="{right - left:.2f}%" height="{STEP}"/>'
        parts.insert(0, band)
        inside = [f"<title>{escape(text(effect))}</title>"]
        if effect["low"] is not None:
            low, high = axis.at(effect["low"]), axis.at(effect["high"])
            inside.append(f'<line class="interval" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>')
        inside += [_mark(axis.at(value), y, PUBLISHED, "published") for value in effect["published"]]
        inside.append(_mark(axis.at(effect["value"]), y, MARKS[effect["verdict"]], "mark"))
        parts.append(f'<g class="{word}">{"".join(inside)}</g>')
    said = escape("; ".join(text(effect) for effect in effects))
    height = STEP * len(effects) + 2
    return Markup(f'<svg class="forest" role="img" aria-label="{said}" height="{height}">{"".join(parts)}</svg>')


def _mark(x: float, y: float, path: str, name: str) -> str:
    return f'<svg class="{name}" x="{x}%" y="{y}" overflow="visible"><path d="{path}"/></svg>'


def ruler(axis: Scale) -> Markup:
    """Return the axis: a tick at 0 and at each power of ten of a point within it."""
    ticks = sorted({0.0, *(sign * tick for tick in TICKS for sign in (-1, 1) if axis.low < sign * tick < axis.high)})
    labels = [
        f'<text x="{axis.at(tick)}%" y="12" text-anchor="middle">{f"{100 * tick:+g}" if tick else 0}</text>'
        for tick in _apart(ticks, axis)
    ]
    return Markup(f'<svg class="ruler" height="16" aria-hidden="true">{"".join(labels)}</svg>')


def _apart(ticks: list[float], axis: Scale, least: float = 12.0) -> list[float]:
    """Return 0, and from the outside in the ticks that have room for their labels."""
    kept: list[float] = []
    for tick in sorted(ticks, key=lambda tick: (tick != 0, -abs(tick))):
        if all(abs(axis.at(tick) - axis.at(other)) >= least for other in kept):
            kept.append(tick)
    return sorted(kept)
