"""Where the names of points stand so that none covers another, a point, or leaves the picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Anchor = Literal["start", "middle", "end"]

_REACH = (0.0, 10.0, 22.0, 36.0, 52.0)  # pixels further out, tried in this order
_NEAR = 2  # how many of them need no line back to the point
_GAP = 3.0  # pixels between a name and anything else


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x <= self.right and self.top <= y <= self.bottom


@dataclass(frozen=True)
class Label:
    """A name in its box, written from the side that is next to its point, as fonts differ in
    width; `line` leads from the point to a name that stands further off."""

    text: str
    box: Box
    anchor: Anchor
    line: tuple[float, float, float, float] | None


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    frame: Box,
    *,
    radius: float,
    size: float,
) -> list[Label | None]:
    """Place the names of points, the first ones first.

    Args:
        points: (x, y) of every point in pixels; all are kept free.
        texts: the name of each point; an empty one wants no place.
        frame: names stay inside.
        radius: of the points' marks.
        size: of the letters.

    Returns for each point its label, or None where there was no room left.
    """
    taken = [Box(x - radius, y - radius, x + radius, y + radius) for x, y in points]
    trail: list[tuple[float, float]] = []  # points along the lines that are drawn
    labels: list[Label | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        label = _first_free(x, y, text, frame, taken, trail, radius, size) if text else None
        if label is not None:
            taken.append(label.box)
            trail += _along(label.line) if label.line else []
        labels.append(label)
    return labels


def text_width(text: str, size: float) -> float:
    """About how wide a line of text is, in pixels: rather too wide than too narrow."""
    wide = sum(1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.63 for letter in text)
    return wide * size


def shortened(text: str, size: float, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _first_free(
    x: float,
    y: float,
    text: str,
    frame: Box,
    taken: Sequence[Box],
    trail: Sequence[tuple[float, float]],
    radius: float,
    size: float,
) -> Label | None:
    for far, anchor, box in _candidates(x, y, text_width(text, size), size, radius):
        if not box.within(frame) or any(box.meets(other) for other in taken):
            continue
        if any(box.holds(*spot) for spot in trail):
            continue
        line = _line(x, y, box, radius) if far >= _NEAR else None
        others = [other for other in taken if not other.holds(x, y)]
        if line and any(other.holds(*spot) for other in others for spot in _along(line)):
            continue
        return Label(text, box, anchor, line)
    return None


def _candidates(
    x: float, y: float, width: float, height: float, radius: float
) -> Iterator[tuple[int, Anchor, Box]]:
    """Boxes around a point, near ones first: beside it, above and below it, then askew."""
    for far, reach in enumerate(_REACH):
        out = radius + _GAP + reach
        askew = 0.7 * out
        places: tuple[tuple[Anchor, float, float], ...] = (
            ("start", x + out, y - height / 2),
            ("end", x - out - width, y - height / 2),
            ("middle", x - width / 2, y - out - height),
            ("middle", x - width / 2, y + out),
            ("start", x - radius, y - out - height),
            ("start", x - radius, y + out),
            ("end", x + radius - width, y - out - height),
            ("end", x + radius - width, y + out),
            ("start", x + askew, y - askew - height),
            ("end", x - askew - width, y - askew - height),
            ("start", x + askew, y + askew),
            ("end", x - askew - width, y + askew),
        )
        for anchor, left, top in places:
            yield far, anchor, Box(left, top, left + width, top + height)


def _line(x: float, y: float, box: Box, radius: float) -> tuple[float, float, float, float]:
    """From the edge of a point's mark to the nearest place of a box."""
    to_x, to_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
    length = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
    step = (radius + 1) / length
    return x + step * (to_x - x), y + step * (to_y - y), to_x, to_y


def _along(line: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    """Places on a line, its last one left out: there its own name begins."""
    x, y, to_x, to_y = line
    return [(x + part / 8 * (to_x - x), y + part / 8 * (to_y - y)) for part in range(8)]
