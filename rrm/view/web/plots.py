"""Line plots as SVG, drawn here: a page needs no script for them, and a reader gets the numbers as a table too.

`static/readout.js` says from that table what the values are where the pointer is, or the keyboard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from markupsafe import Markup, escape

from rrm.core.clean import visible

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 34
MOST = 400
"""Points drawn of a series; longer ones are thinned evenly, their last point kept."""
COLORS = 8
"""Lines that have a color of their own; further ones are dashed."""
_ids = count()

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """A plot to be drawn: `title` and `note` say what it shows, `marks` are x positions of dashed lines."""

    title: str
    x: str
    series: Mapping[str, Points]
    note: str = ""
    marks: Sequence[float] = ()
    dots: bool = False
    """Draw every point, and no line: for what is not a course of time."""
    unit: tuple[float, float] | None = None
    """The y range, where it is known."""
    apart: bool = False
    """Draw each series between its own least and most: they have no common unit. The numbers are in the table."""
    bands: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)
    """Series -> (x, low, high) around its line, at its points; what they are is for the note to say."""

    def __html__(self) -> str:
        """As HTML: a figure with its plot, legend and data table; says so if there is nothing to plot."""
        title = visible(self.title)  # it may be the name of somebody's metric
        kept = _thinned({name: points for name, points in self.series.items() if points})
        series = {visible(name): points for name, points in kept.items()}
        if not series:
            return str(Markup('<figure class="plot empty"><figcaption>{}</figcaption><p>nothing recorded</p></figure>')
                       .format(title))  # fmt: skip
        scale = self._scale(series)
        colors = {visible(name): i for i, name in enumerate(self.series)}  # the same, though another has no points
        return str(Markup('<figure class="plot"><figcaption>{}</figcaption><div class="canvas">{}</div>{}{}{}</figure>')
                   .format(title, self._svg(series, scale, colors), _legend(series, colors, self.apart),
                           Markup('<p class="note">{}</p>').format(self.note) if self.note else "",
                           _table(self.x, series, colors, self._around(), scale)))  # fmt: skip

    def _around(self) -> dict[str, dict[float, tuple[float, float]]]:
        """Series, as it is shown -> x -> low and high."""
        return {visible(name): {x: (low, high) for x, low, high in band} for name, band in self.bands.items()}

    def _scale(self, own: Mapping[str, Points]) -> PlotScale:
        xs = [x for points in own.values() for x, _ in points]
        ys = [y for points in own.values() for _, y in points]
        ys += [y for band in self.bands.values() for _, *ends in band for y in ends]
        if min(xs) == max(xs):  # nothing lies left or right of it
            x_ticks, x_ends = [xs[0]], (xs[0] - 1, xs[0] + 1)
        else:
            x_ticks = ticks(min(xs), max(xs), 6, whole=all(x == int(x) for x in xs))
            x_ends = (x_ticks[0], x_ticks[-1])
        y_ticks = [0.0, 1.0] if self.apart else ticks(*(self.unit or (min(ys), max(ys))), 5)
        y_ends = (0.0, 1.0) if self.apart else (min(*ys, y_ticks[0]), max(*ys, y_ticks[-1]))
        return PlotScale(x_ends, y_ends, x_ticks, y_ticks)

    def _svg(self, own: Mapping[str, Points], scale: PlotScale, colors: Mapping[str, int]) -> Markup:
        series = {name: _stretched(points) for name, points in own.items()} if self.apart else own
        parts: list[Markup] = []
        for y, label in zip(scale.y_ticks, ("least", "most") if self.apart else labels(scale.y_ticks), strict=True):
            v = scale.v(y)
            parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                LEFT, WIDTH - RIGHT, v, v))  # fmt: skip
            parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="end" dy="0.32em">{}</text>').format(
                LEFT - 6, v, label))  # fmt: skip
        for x, label in zip(scale.x_ticks, labels(scale.x_ticks), strict=True):
            parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                scale.u(x), HEIGHT - BOTTOM + 14, label))  # fmt: skip
        first = min(x for points in own.values() for x, _ in points)
        for x in self.marks:
            if first < x < scale.x_ends[1]:
                parts.append(Markup('<line class="mark" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    scale.u(x), scale.u(x), TOP, HEIGHT - BOTTOM))  # fmt: skip
        around = self._around()
        for name, points in own.items():
            if len(ends := [(x, *around[name][x]) for x, _ in points if x in around.get(name, {})]) > 1:
                edge = [(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in reversed(ends)]
                path = " ".join(f"{scale.u(x)},{scale.v(y)}" for x, y in edge)
                parts.append(Markup('<polygon class="band {}" points="{}"/>').format(_color(colors[name]), path))
        for name, points in series.items():
            color = _color(colors[name])
            places = [(scale.u(x), scale.v(y)) for x, y in points]
            if len(places) > 1 and not self.dots:
                path = " ".join(f"{u},{v}" for u, v in places)
                parts.append(Markup('<polyline class="line {}" points="{}"/>').format(color, path))
            if self.dots:
                parts += [Markup('<circle class="dot {}" cx="{}" cy="{}" r="2.4"/>').format(color, u, v)
                          for u, v in places]  # fmt: skip
            elif len(places) <= 16:
                dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="2.4"><title>{}: {} at {}</title></circle>')
                parts += [dot.format(color, u, v, name, short(y), short(x))
                          for (u, v), (x, y) in zip(places, own[name], strict=True)]  # fmt: skip
        parts.append(Markup('<line class="cross" x1="0" x2="0" y1="{}" y2="{}"/>').format(TOP, HEIGHT - BOTTOM))
        parts.append(Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, self.x))  # fmt: skip
        name = f"plot{next(_ids)}"
        said = "; ".join(f"{n} from {short(p[0][1])} to {short(p[-1][1])}" for n, p in own.items())
        return Markup(
            '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}t {}d"><title id="{}t">{}</title>'
            '<desc id="{}d">{}</desc>{}</svg>'
        ).format(WIDTH, HEIGHT, name, name, name, visible(self.title), name, said, Markup("").join(parts))


@dataclass(frozen=True)
class PlotScale:
    """Where values lie in the picture."""

    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def u(self, x: float) -> str:
        """From the left, in the picture's units."""
        return f"{LEFT + _along(x, *self.x_ends) * (WIDTH - LEFT - RIGHT):.1f}"

    def v(self, y: float) -> str:
        """From the top, in the picture's units."""
        return f"{HEIGHT - BOTTOM - _along(y, *self.y_ends) * (HEIGHT - TOP - BOTTOM):.1f}"


def _along(value: float, low: float, high: float) -> float:
    """0 at `low`, 1 at `high`; of halves, whose difference is never too large."""
    return (value / 2 - low / 2) / (high / 2 - low / 2 or 1)


def sparkline(values: Sequence[float], title: str) -> Markup:
    """A course of numbers as a line in a line."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    path = " ".join(
        f"{1 + 70 * i / (len(values) - 1):.1f},{15 - 14 * _along(v, low, high):.1f}"
        for i, v in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 72 16" role="img" aria-label="{}">'
        '<polyline class="line s0" points="{}"/></svg>'
    ).format(f"{title}: from {short(values[0])} to {short(values[-1])}", path)


def thin(points: Points) -> Points:
    """At most `MOST` points, evenly chosen, and the last one."""
    if len(points) <= MOST:
        return points
    every = len(points) / MOST
    return [points[min(len(points) - 1, int(i * every))] for i in range(MOST)] + [points[-1]]


def _thinned(series: Mapping[str, Points]) -> dict[str, Points]:
    """Those of at most `MOST` points as they are; of longer ones the same x, evenly chosen, and each one's last."""
    long = {name: points for name, points in series.items() if len(points) > MOST}
    at = sorted({x for points in long.values() for x, _ in points})
    kept = {x for x, _ in thin([(x, 0.0) for x in at])}
    found = {**series}
    found |= {name: [*(p for p in points[:-1] if p[0] in kept), points[-1]] for name, points in long.items()}
    most = MOST + 2  # an x may be there more than once
    return {name: points if len(points) <= most else thin(points) for name, points in found.items()}


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers that cover [low, high], at most `most` of them or so; if these are one number, and it from 0. Of
    what is too large or too small for round numbers, the two ends."""
    if not math.isfinite((high - low) * 1e3) or 0 < max(abs(low), abs(high)) < 1e-290:
        return [low, high] if low < high else [low, low + 1.0]
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = (min(0.0, 1.2 * low), max(0.0, 1.2 * high)) if high or low else (0.0, 1.0)
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= most)
    if whole:
        step = max(1.0, step)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, last + 1)]


def labels(at: Sequence[float]) -> list[str]:
    """Ticks in words, with as many digits as tell them apart."""
    found = [short(value) for value in at]
    if len({*found}) < len(found):
        digits = max(0, -math.floor(math.log10(at[1] - at[0]) + 1e-9))
        found = [f"{value:.{digits}f}".replace("-", "−") for value in at]
    return found


def short(value: float) -> str:
    """A number for an axis: "0.25", "1234", "12k", "−3"."""
    if abs(value) >= 10_000:
        text = f"{value / 1000:g}k"
    elif abs(value) >= 1000:
        text = f"{value:.0f}"
    else:
        text = f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return "0" if text == "-0" else text.replace("-", "−")


def _color(i: int) -> str:
    """The classes of the `i`th line."""
    return f"s{i % COLORS}" + (f" t{i // COLORS}" if i >= COLORS else "")


def sign(i: int) -> Markup:
    """What stands beside the name of the `i`th line."""
    sign = '<svg class="sign" viewBox="0 0 14 6" aria-hidden="true"><path class="line {}" d="M0 3h14"/></svg>'
    return Markup(sign).format(_color(i))


def _stretched(points: Points) -> Points:
    """Between 0 and 1; what never changes is in the middle."""
    low, high = min(y for _, y in points), max(y for _, y in points)
    return [(x, (y - low) / (high - low) if high > low else 0.5) for x, y in points]


def _legend(series: Mapping[str, Points], colors: Mapping[str, int], ranges: bool = False) -> Markup:
    if len(series) < 2:
        return Markup("")
    items = []
    for name, points in series.items():
        values = [y for _, y in points]
        between = f", {short(min(values))} to {short(max(values))}" if ranges else ""
        items.append(Markup("<li>{}{}{}</li>").format(sign(colors[name]), name, between))
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _table(
    x: str, series: Mapping[str, Points], colors: Mapping[str, int],
    around: Mapping[str, Mapping[float, tuple[float, float]]], scale: PlotScale,
) -> Markup:  # fmt: skip
    """The numbers. What `static/readout.js` goes by: how far from the left a row is drawn (`data-u`), and which color a
    column, or in a table of single values a row, has (`data-s`)."""

    def said(name: str, x: float, y: float) -> str:
        ends = around.get(name, {}).get(x)
        return short(y) if ends is None else f"{short(y)} ({short(ends[0])} to {short(ends[1])})"

    rows: list[tuple[float, Markup, tuple[str, ...]]]
    if any(len({x for x, _ in points}) < len(points) for points in series.values()):
        head = Markup("<th scope=col>{}</th><th scope=col>what</th><th scope=col>value</th>").format(x)
        long = Markup(" data-s={}")
        rows = [(u, long.format(colors[name] % COLORS), (name, said(name, u, v)))
                for name, points in series.items() for u, v in points]  # fmt: skip
    else:
        columns = [(name, dict(points)) for name, points in series.items()]
        head = Markup("<th scope=col>{}</th>").format(x) + Markup("").join(
            Markup("<th scope=col data-s={}>{}</th>").format(colors[name] % COLORS, name) for name in series
        )
        at = sorted({x for points in series.values() for x, _ in points})
        rows = [(u, Markup(""), tuple(said(name, u, c[u]) if u in c else "" for name, c in columns)) for u in at]
    body = Markup("").join(
        Markup("<tr data-u={}{}><td>{}</td>{}</tr>").format(
            scale.u(u), color, short(u), Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells)
        )
        for u, color, cells in rows
    )
    return Markup(
        "<details class=data><summary>Numbers</summary><div class=scroll tabindex=0 role=region aria-label={}>"
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div></details>"
    ).format(Markup('"{}"').format(escape(f"{', '.join(series)} by {x}")), head, body)
