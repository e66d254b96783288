"""Drawings as inline SVG, without a library and without a script.

Widths are per cent and heights pixels: a drawing fills its column, and its letters stay readable on a phone.

    0 %                                      100 %
    ├──────────────────────────────────────────┤
    │ ▇▇▇   ▇  ▇▇▇▇▇▇▇▇▇                        │  lane: calls one after the other
    │     ▇▇▇▇▇▇▇▇                              │  the next lane: calls at the same time
    └ 0 s ──────── 1 s ──────── 2 s ────────────┘
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..model import CallRecord, Measure, Result
from .text import visible

_LANE, _AXIS = 18, 20
_MOST_LANES = 12
_MOST_POINTS = 400
_PLOT = 170
# Where one pixel of the smallest phone is: what is narrower would not be seen.
_THINNEST = 0.4
_LEAST_SLICE = 0.015

_SVG = Markup(
    '<svg class="{kind}" width="100%" height="{height}" role="img" aria-label="{label}">{body}</svg>'
)
_BAR = Markup(
    '<rect class="{kind}" x="{x}%" y="{y}" width="{width}%" height="{height}" rx="2">'
    "<title>{title}</title></rect>"
)
_LABEL = Markup('<text x="{x}%" y="{y}" text-anchor="{anchor}">{text}</text>')
_LINE = Markup('<line class="{kind}" x1="{x1}%" y1="{y1}" x2="{x2}%" y2="{y2}"/>')
_DOT = Markup('<circle class="dot" cx="{x}%" cy="{y}" r="3.5"><title>{title}</title></circle>')


def figure(value: float) -> str:
    """Return a number as people read it: three or four digits that mean something."""
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def timeline(calls: Sequence[CallRecord]) -> Markup:
    """Draw calls as bars over time; calls at the same time lie one below the other."""
    end = max((c.at + c.seconds for c in calls), default=0.0) or 1e-6
    ends: list[float] = []
    bars = [_bar(c, _lane(ends, c), end) for c in calls if math.isfinite(c.at + c.seconds)]
    height = len(ends) * _LANE + 4
    axis = [_tick(value, value / end * 100, height + 14, " s") for value in ticks(0, end)]
    label = f"Timeline of {len(calls)} calls over {figure(end)} seconds"
    return _SVG.format(kind="timeline", height=height + _AXIS, label=label, body=Markup("").join(bars + axis))


def plot(measure: Measure) -> Markup:
    """Draw the series of a figure; "" if there are less than two points."""
    points = sorted((x, y) for x, y in measure.series if math.isfinite(x) and math.isfinite(y))
    points = points[:: math.ceil(len(points) / _MOST_POINTS) or 1]
    if len(points) < 2:
        return Markup("")
    across = _scale([x for x, _ in points], zero=False)
    up = _scale([y for _, y in points], zero=True)
    places = [(1 + 98 * across.place(x), _PLOT - 28 - (_PLOT - 52) * up.place(y)) for x, y in points]
    body = [*_grid(up, measure.unit), *_curve(places), *_dots(points, places, measure.unit)]
    body += [_tick(x, 1 + 98 * across.place(x), _PLOT - 6) for x in across.ticks()]
    first, last = figure(points[0][1]), figure(points[-1][1])
    label = f"{measure.name}: {len(points)} points, from {first} to {last} {measure.unit}"
    return _SVG.format(kind="plot", height=_PLOT, label=visible(label), body=Markup("").join(body))


def stacked_bar(counts: Mapping[Result, int]) -> Markup:
    """Draw how many checks ended how, as one bar."""
    total = sum(counts.values()) or 1
    # One failure among hundreds has to be seen, so a slice has a least width.
    shares = {result: max(count / total, _LEAST_SLICE) for result, count in counts.items() if count}
    bars, x = [], 0.0
    for result, share in shares.items():
        width, count = share / sum(shares.values()) * 100, counts[result]
        place = {"x": f"{x:.3f}", "y": 0, "width": f"{width:.3f}", "height": 12}
        bars.append(_BAR.format(kind=f"r-{result}", title=f"{count} {result}", **place))
        x += width
    label = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    return _SVG.format(kind="stack", height=12, label=label or "no checks", body=Markup("").join(bars))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two, at most so many and at least one."""
    raw = (high - low) / most
    if raw <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= raw)
    first = math.ceil(low / step)
    return [(first + i) * step for i in range(most + 1) if (first + i) * step <= high]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Return where a value lies, from 0 to 1."""
        low, high, value = map(self._bent, (self.low, self.high, value))
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[float]:
        """Return the numbers to write on the axis."""
        if not self.logarithmic:
            return ticks(self.low, self.high)
        powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        return [10.0**power for power in powers]

    def _bent(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def _scale(values: Sequence[float], *, zero: bool) -> _Scale:
    """Return the scale of an axis; `zero` if it has to show zero, else 100, 1,000, 10,000 lie evenly."""
    low, high = min(values), max(values)
    if zero:
        return _Scale(min(low, 0.0), high if high > 0 else 1.0, logarithmic=False)
    return _Scale(low, high, logarithmic=low > 0 and high / low >= 50)


def _lane(ends: list[float], call: CallRecord) -> int:
    """Return the first lane that is free when the call begins; a crowd shares the last one."""
    for lane, end in enumerate(ends):
        if end <= call.at:
            ends[lane] = call.at + call.seconds
            return lane
    if len(ends) == _MOST_LANES:
        return _MOST_LANES - 1
    ends.append(call.at + call.seconds)
    return len(ends) - 1


def _bar(call: CallRecord, lane: int, end: float) -> Markup:
    width = max(_THINNEST, call.seconds / end * 100)
    return _BAR.format(
        kind="failed" if call.failed else "call",
        x=f"{min(call.at / end * 100, 100 - width):.2f}",
        y=lane * _LANE + 3,
        width=f"{width:.2f}",
        height=_LANE - 5,
        title=visible(f"{figure(call.at)} s: {call.call[:200]}, {figure(call.seconds * 1000)} ms"),
    )


def _tick(value: float, x: float, y: float, unit: str = "") -> Markup:
    anchor = "start" if x < 4 else "end" if x > 96 else "middle"
    return _LABEL.format(x=f"{x:.2f}", y=f"{y:.0f}", anchor=anchor, text=figure(value) + unit)


def _grid(up: _Scale, unit: str) -> list[Markup]:
    parts = []
    for value in ticks(up.low, up.high, 3):
        y = f"{_PLOT - 28 - (_PLOT - 52) * up.place(value):.1f}"
        parts.append(_LINE.format(kind="grid", x1=0, y1=y, x2=100, y2=y))
        parts.append(
            _LABEL.format(
                x=0, y=f"{float(y) - 4:.1f}", anchor="start", text=visible(f"{figure(value)} {unit}")
            )
        )
    return parts


def _curve(places: Sequence[tuple[float, float]]) -> list[Markup]:
    return [
        _LINE.format(kind="curve", x1=f"{x1:.2f}", y1=f"{y1:.1f}", x2=f"{x2:.2f}", y2=f"{y2:.1f}")
        for (x1, y1), (x2, y2) in itertools.pairwise(places)
    ]


def _dots(
    points: Sequence[tuple[float, float]], places: Sequence[tuple[float, float]], unit: str
) -> list[Markup]:
    if len(points) > 60:
        return []
    return [
        _DOT.format(x=f"{left:.2f}", y=f"{top:.1f}", title=visible(f"{figure(x)}: {figure(y)} {unit}"))
        for (x, y), (left, top) in zip(points, places, strict=True)
    ]
