"""Accuracy over cost: which plans no other one beats, and the picture of it as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from sparsight.measure.panels import percent
from sparsight.tune.axes import Axis, cost_axis, share_axis
from sparsight.tune.front import unbeaten
from sparsight.tune.labels import Box, Label, place_labels, shortened
from sparsight.tune.rows import Role

_RADIUS = 5.0  # pixels of a point's mark
_MARGINS = Box(58, 16, 14, 46)  # pixels around the plot


@dataclass(frozen=True)
class Point:
    """One plan in the picture.

    cost       in the unit of the axis
    accuracy   0..1
    interval   of the accuracy, 95 %
    label      its name, which stands beside it where there is room
    series     plans of one series differ in the budget alone
    """

    cost: float
    accuracy: float
    interval: tuple[float, float]
    label: str
    series: str
    role: Role


@dataclass(frozen=True)
class Size:
    """A picture's pixels and how many names it holds at most."""

    name: str
    width: int
    height: int
    letters: float
    names: int
    longest: float  # pixels of a name


WIDE = Size("wide", 900, 480, 13.0, 18, 260.0)
NARROW = Size("narrow", 360, 400, 11.5, 9, 150.0)


def pareto_picture(
    points: Sequence[Point], title: str, told: Callable[[float], str], size: Size = WIDE
) -> str:
    """An SVG of accuracy over cost with intervals, the front, and names that do not overlap.

    Args:
        points: at least one.
        title: what the cost is.
        told: a cost in words.
    """
    best = unbeaten([(point.cost, point.accuracy) for point in points])
    plot = _Plot(
        cost_axis([point.cost for point in points]),
        share_axis([edge for point in points for edge in point.interval]),
        size,
    )
    order = _order(points, best)
    labels = place_labels(
        [(plot.x(points[at].cost), plot.y(points[at].accuracy)) for at in order],
        [shortened(name, size.letters, size.longest) for name in _names(points, order, size)],
        plot.area,
        radius=_RADIUS,
        size=size.letters,
    )
    parts = [
        _grid(plot, title, told),
        *_levels(points, plot),
        *_series(points, plot),
        _steps([points[at] for at in best], plot),
        *(_point(points[at], at in best, plot, told) for at in reversed(order)),
        *(_label(label, points[at], at in best) for label, at in zip(labels, order, strict=True)),
    ]
    words = escape(f"Accuracy over {title} of {len(points)} plans", quote=True)
    return (
        f'<svg class="pareto {size.name}" viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{words}" font-size="{size.letters:g}">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class _Plot:
    """Values to pixels."""

    across: Axis
    up: Axis
    size: Size

    @property
    def area(self) -> Box:
        size = self.size
        right, bottom = size.width - _MARGINS.right, size.height - _MARGINS.bottom
        return Box(_MARGINS.left, _MARGINS.top, right, bottom)

    def x(self, cost: float) -> float:
        return self.area.left + self.across.at(cost) * (self.area.right - self.area.left)

    def y(self, accuracy: float) -> float:
        return self.area.bottom - self.up.at(accuracy) * (self.area.bottom - self.area.top)


def _order(points: Sequence[Point], best: Sequence[int]) -> list[int]:
    """Whose name is placed first: full, the front from its cheap end, then by accuracy."""
    first = [at for at, point in enumerate(points) if point.role == "full"]
    rest = sorted(range(len(points)), key=lambda at: (-points[at].accuracy, at))
    return list(dict.fromkeys([*first, *best, *rest]))


def _names(points: Sequence[Point], order: Sequence[int], size: Size) -> list[str]:
    """The name of each point in this order; empty where it gets none: of a baseline's budgets
    the best alone has one, and there are not more than the picture holds."""
    names: list[str] = []
    named: set[str] = set()
    for at in order:
        point = points[at]
        again = point.role == "baseline" and point.series in named
        full = sum(map(bool, names)) == size.names
        names.append("" if again or full else point.label)
        named.add(point.series)
    return names


def _grid(plot: _Plot, title: str, told: Callable[[float], str]) -> str:
    area, parts = plot.area, []
    for mark in plot.up.marks:
        y = plot.y(mark)
        parts.append(
            f'<path class="grid" d="M{area.left:.1f} {y:.1f}H{area.right:.1f}"/>'
            f'<text class="mark" x="{area.left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">'
            f"{escape(percent(mark))}</text>"
        )
    apart = -1e9
    for mark in plot.across.marks:
        x = plot.x(mark)
        words = escape(told(mark))
        wide = len(words) * plot.size.letters * 0.58
        if x - wide / 2 < apart + 8 or x + wide / 2 > plot.size.width:
            continue
        apart = x + wide / 2
        parts.append(
            f'<path class="grid" d="M{x:.1f} {area.bottom:.1f}v5"/>'
            f'<text class="mark" x="{x:.1f}" y="{area.bottom + 19:.1f}" text-anchor="middle">'
            f"{words}</text>"
        )
    scale = ", log scale" if plot.across.log else ""
    parts.append(
        f'<path class="axis" d="M{area.left:.1f} {area.bottom:.1f}H{area.right:.1f}"/>'
        f'<text class="mark" x="{area.right:.1f}" y="{area.bottom + 38:.1f}" text-anchor="end">'
        f"{escape(title)}{scale}</text>"
    )
    return "".join(parts)


def _levels(points: Sequence[Point], plot: _Plot) -> list[str]:
    """A line across at the accuracy of the full model."""
    return [
        f'<path class="level" d="M{plot.area.left:.1f} {plot.y(point.accuracy):.1f}'
        f'H{plot.area.right:.1f}"/>'
        for point in points
        if point.role == "full"
    ]


def _series(points: Sequence[Point], plot: _Plot) -> list[str]:
    """Dashed lines through the budgets of each baseline."""
    chosen = [point for point in points if point.role == "baseline"]
    chosen.sort(key=lambda point: (point.series, point.cost))
    lines = []
    for series, of_one in groupby(chosen, key=lambda point: point.series):
        path = "L".join(f"{plot.x(item.cost):.1f} {plot.y(item.accuracy):.1f}" for item in of_one)
        lines.append(f'<path class="baseline line" {_of(series)} d="M{path}"/>')
    return lines


def _steps(best: Sequence[Point], plot: _Plot) -> str:
    """The front as a staircase: the best accuracy that each cost buys."""
    spots = [(plot.x(point.cost), plot.y(point.accuracy)) for point in best]
    path = f"M{spots[0][0]:.1f} {spots[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in spots[1:])
    return f'<path class="front" d="{path}H{plot.area.right:.1f}"/>'


def _point(point: Point, best: bool, plot: _Plot, told: Callable[[float], str]) -> str:
    x, y = plot.x(point.cost), plot.y(point.accuracy)
    low, high = (plot.y(edge) for edge in point.interval)
    words = (
        f"{point.label}: {percent(point.accuracy)} "
        f"({percent(point.interval[0])} to {percent(point.interval[1])}), {told(point.cost)}"
    )
    if best:
        words += ", on the front"
    return (
        f'<g class="{_classes(point, best)}" {_of(point.series)} '
        f'data-tip="{escape(words, quote=True)}">'
        f'<path class="interval" d="M{x:.1f} {low:.1f}V{high:.1f}"/>{mark_of(point.role, x, y)}'
        f'<circle class="touch" cx="{x:.1f}" cy="{y:.1f}" r="12"/></g>'
    )


def mark_of(role: Role, x: float, y: float) -> str:
    """A circle for a system, a square for a baseline, a diamond for the full model."""
    if role == "system":
        return f'<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS:g}"/>'
    side = 0.88 * _RADIUS
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if role == "full" else ""
    return (
        f'<rect class="spot" x="{x - side:.1f}" y="{y - side:.1f}" '
        f'width="{2 * side:.1f}" height="{2 * side:.1f}"{turned}/>'
    )


def _label(label: Label | None, point: Point, best: bool) -> str:
    if label is None:
        return ""
    line = ""
    if label.line:
        from_x, from_y, to_x, to_y = label.line
        line = f'<path class="lead" d="M{from_x:.1f} {from_y:.1f}L{to_x:.1f} {to_y:.1f}"/>'
    box = label.box
    x = {"start": box.left, "middle": (box.left + box.right) / 2, "end": box.right}[label.anchor]
    baseline = box.bottom - 0.22 * (box.bottom - box.top)
    return (
        f'<g class="{_classes(point, best)} name" {_of(point.series)}>{line}'
        f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="{label.anchor}">'
        f"{escape(label.text)}</text></g>"
    )


def _classes(point: Point, best: bool) -> str:
    return f"{point.role} best" if best else point.role


def _of(series: str) -> str:
    """What the script joins the points, the line and the names of a series by."""
    return f'data-series="{escape(series, quote=True)}"'
