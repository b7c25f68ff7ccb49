"""Line plots as SVG, drawn here: a page needs no script for them, and a reader gets the numbers as a table too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup, escape

from rrm.core.clean import visible

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 34
MOST = 400
"""Points drawn of a series; longer ones are thinned evenly, their last point kept."""
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

    def __html__(self) -> str:
        """As HTML: a figure with its plot, legend and data table; says so if there is nothing to plot."""
        title = visible(self.title)  # it may be the name of somebody's metric
        series = {visible(name): thin(points) for name, points in self.series.items() if points}
        if not series:
            return str(Markup('<figure class="plot empty"><figcaption>{}</figcaption><p>nothing recorded</p></figure>')
                       .format(title))  # fmt: skip
        return str(Markup('<figure class="plot"><figcaption>{}</figcaption>{}{}{}{}</figure>').format(
            title, self._svg(series), _legend(series, self.apart),
            Markup('<p class="note">{}</p>').format(self.note) if self.note else "", _table(self.x, series),
        ))  # fmt: skip

    def _svg(self, own: Mapping[str, Points]) -> Markup:
        series = {name: _stretched(points) for name, points in own.items()} if self.apart else own
        xs = [x for points in series.values() for x, _ in points]
        ys = [y for points in series.values() for _, y in points]
        x_ticks = ticks(min(xs), max(xs), 6, whole=all(x == int(x) for x in xs))
        y_ticks = [0.0, 1.0] if self.apart else ticks(*(self.unit or (min(ys), max(ys))), 5)
        x_low, x_high = min(min(xs), x_ticks[0]), max(max(xs), x_ticks[-1])
        y_low, y_high = min(min(ys), y_ticks[0]), max(max(ys), y_ticks[-1])

        def at(x: float, y: float) -> tuple[str, str]:
            across = (x - x_low) / (x_high - x_low or 1) * (WIDTH - LEFT - RIGHT)
            up = (y - y_low) / (y_high - y_low or 1) * (HEIGHT - TOP - BOTTOM)
            return f"{LEFT + across:.1f}", f"{HEIGHT - BOTTOM - up:.1f}"

        parts: list[Markup] = []
        for y in y_ticks:
            _, v = at(x_low, y)
            parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                LEFT, WIDTH - RIGHT, v, v))  # fmt: skip
            parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="end" dy="0.32em">{}</text>').format(
                LEFT - 6, v, ("least", "most")[int(y)] if self.apart else short(y)))  # fmt: skip
        for x in x_ticks:
            u, _ = at(x, y_low)
            parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                u, HEIGHT - BOTTOM + 14, short(x)))  # fmt: skip
        for x in self.marks:
            if x_low < x < x_high:
                u, _ = at(x, y_low)
                parts.append(Markup('<line class="mark" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    u, u, TOP, HEIGHT - BOTTOM))  # fmt: skip
        for i, points in enumerate(series.values()):
            places = [at(x, y) for x, y in points]
            if len(places) > 1 and not self.dots:
                path = " ".join(f"{u},{v}" for u, v in places)
                parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(i % 8, path))
            if self.dots or len(places) <= 16:
                dot = Markup('<circle class="dot s{}" cx="{}" cy="{}" r="2.4"/>')
                parts += [dot.format(i % 8, u, v) for u, v in places]
        parts.append(Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, self.x))  # fmt: skip
        name = f"plot{next(_ids)}"
        said = "; ".join(f"{n} from {short(p[0][1])} to {short(p[-1][1])}" for n, p in own.items())
        return Markup(
            '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}t {}d"><title id="{}t">{}</title>'
            '<desc id="{}d">{}</desc>{}</svg>'
        ).format(WIDTH, HEIGHT, name, name, name, visible(self.title), name, said, Markup("").join(parts))


def sparkline(values: Sequence[float], title: str) -> Markup:
    """A course of numbers as a line in a line."""
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    path = " ".join(
        f"{1 + 70 * i / (len(values) - 1):.1f},{15 - 14 * (v - low) / (high - low or 1):.1f}"
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


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Round numbers that cover [low, high], at most `most` of them or so."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = (low - 1, high + 1) if whole else (low - pad, high + pad)
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= most)
    if whole:
        step = max(1.0, step)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def short(value: float) -> str:
    """A number for an axis: "0.25", "1.2k", "−3"."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    text = f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return "0" if text == "-0" else text.replace("-", "−")


def _stretched(points: Points) -> Points:
    """Between 0 and 1; what never changes is in the middle."""
    low, high = min(y for _, y in points), max(y for _, y in points)
    return [(x, (y - low) / (high - low) if high > low else 0.5) for x, y in points]


def _legend(series: Mapping[str, Points], ranges: bool = False) -> Markup:
    if len(series) < 2:
        return Markup("")
    sign = '<svg viewBox="0 0 14 6" aria-hidden="true"><path class="line s{}" d="M0 3h14"/></svg>'
    items = []
    for i, (name, points) in enumerate(series.items()):
        values = [y for _, y in points]
        between = f", {short(min(values))} to {short(max(values))}" if ranges else ""
        items.append(Markup(f"<li>{sign}{{}}{{}}</li>").format(i % 8, name, between))
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _table(x: str, series: Mapping[str, Points]) -> Markup:
    at = sorted({x for points in series.values() for x, _ in points})
    if any(len({x for x, _ in points}) < len(points) for points in series.values()):
        rows = [(x_, name, y) for name, points in series.items() for x_, y in points]
        head = Markup("<th scope=col>{}</th><th scope=col>what</th><th scope=col>value</th>").format(x)
        body = Markup("").join(
            Markup("<tr><td>{}</td><td>{}</td><td>{}</td></tr>").format(short(u), name, short(v)) for u, name, v in rows
        )
    else:
        columns = [dict(points) for points in series.values()]
        head = Markup("<th scope=col>{}</th>").format(x) + Markup("").join(
            Markup("<th scope=col>{}</th>").format(name) for name in series
        )
        body = Markup("").join(
            Markup("<tr><td>{}</td>{}</tr>").format(
                short(u),
                Markup("").join(Markup("<td>{}</td>").format(short(c[u]) if u in c else "") for c in columns),
            )
            for u in at
        )
    return Markup(
        "<details class=data><summary>Numbers</summary><div class=scroll tabindex=0 role=region aria-label={}>"
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div></details>"
    ).format(Markup('"{}"').format(escape(f"{', '.join(series)} by {x}")), head, body)
