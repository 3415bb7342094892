"""The time strip of a contact sheet: what happens, sounds and is said, as bars over the seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sparsight.measure.panels import clock
from sparsight.measure.pictures import DROPPED, KEPT, QUIET, TEXT
from sparsight.world.lettering import Canvas, Ink, blank, contrast, fitting, font, length
from sparsight.world.scene import COLORS, Event, Look, Scene, Track
from sparsight.world.truth import names, sentence

GUTTER = 104  # pixels to the left of the axis, for the names of the lanes
ROW, BAR = 36, 26  # pixels of a row and of the bar in it
MOST_ROWS = 12  # of one lane
SIZE = 20  # of the words
#: Of things that have no color of their own: photographs.
ACCENTS: tuple[Ink, ...] = ((120, 200, 190), (230, 160, 190), (190, 190, 120))


@dataclass(frozen=True)
class Bar:
    """Something that lasts from `start` to `end` seconds."""

    start: float
    end: float
    words: str
    ink: Ink


@dataclass(frozen=True)
class Placed:
    """A bar on its row, in pixels of the axis; its words start at `words_at`."""

    bar: Bar
    words: str
    left: int
    right: int
    words_at: int
    words_wide: int
    inside: bool
    row: int


def ink_of(look: Look, place: int) -> Ink:
    """The color that stands for a thing that looks like this, the scene's thing number `place`."""
    return COLORS[look.color] if look.color else ACCENTS[place % len(ACCENTS)]


def strip(scene: Scene, marked: Sequence[float], width: int) -> Image.Image:
    """Lanes of bars above an axis in seconds, on which the instants `marked` stand out."""
    span = width - GUTTER - 2
    lanes = [(name, place_bars(bars, scene.duration, span)) for name, bars in lanes_of(scene)]
    lanes = [(name, placed) for name, placed in lanes if placed]
    rows = [min(MOST_ROWS, 1 + max(item.row for item in placed)) for _, placed in lanes]
    head = ROW - 10 if scene.cuts else 0  # where the cuts are named
    base = head + ROW * sum(rows) + 12 * len(rows)
    image, draw = blank(width, base + 48)
    _cuts(draw, scene, span, head, base)
    top = head
    for (name, placed), high in zip(lanes, rows, strict=True):
        draw.text((0, top + ROW // 2), name, QUIET, font(SIZE), anchor="lm")
        for item in placed:
            if item.row < high:
                _bar(draw, item, top)
        left_out = sum(item.row >= high for item in placed)
        if left_out:
            draw.text((0, top + ROW + ROW // 2), f"+{left_out}", QUIET, font(SIZE), anchor="lm")
        top += high * ROW + 12
    _axis(draw, scene, marked, span, base)
    return image


def lanes_of(scene: Scene) -> list[tuple[str, list[Bar]]]:
    """The lanes of the strip with all that belongs on them."""
    inks = [ink_of(thing.look, place) for place, thing in enumerate(scene.things)]

    def ink(thing: int | None) -> Ink:
        return QUIET if thing is None else inks[thing]

    return [
        (
            "events",
            [
                Bar(event.start, event.end, _with_cause(scene, event), ink(event.thing))
                for event in scene.events
            ],
        ),
        ("sounds", [Bar(s.start, s.end, s.name, ink(s.thing)) for s in scene.sounds]),
        ("said", [Bar(s.start, s.end, f'"{s.text}"', ink(s.thing)) for s in scene.narration]),
        ("camera", _of_camera(scene)),
    ]


def _with_cause(scene: Scene, event: Event) -> str:
    if event.cause is None:
        return sentence(scene, event)
    because = names(scene)[scene.events[event.cause].thing]
    return f"{sentence(scene, event)}, because of the {because}"


def _of_camera(scene: Scene) -> list[Bar]:
    tracks: list[tuple[str, Track]] = [
        ("pan", scene.camera.x),
        ("pan", scene.camera.y),
        ("zoom", scene.camera.zoom),
        ("light changes", scene.light),
    ]
    bars = {}
    for words, track in tracks:
        if len(set(track.values)) > 1:
            start, end = max(0.0, track.times[0]), min(scene.duration, track.times[-1])
            bars[words] = Bar(start, end, words, DROPPED)
    return list(bars.values())


# ---- where everything goes ---------------------------------------------------------------------


def place_bars(bars: Sequence[Bar], duration: float, span: int) -> list[Placed]:
    """Each bar on the first row on which it and its words touch no other."""
    found: list[Placed] = []
    free: list[int] = []  # the pixel from which on each row is empty
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.end)):
        left = round(span * min(max(bar.start, 0), duration) / duration)
        right = max(left + 6, round(span * min(max(bar.end, 0), duration) / duration))
        words, wide = bar.words, length(bar.words, SIZE)
        inside = wide + 16 <= right - left
        if inside:
            words_at = left + 8
        elif right + 8 + wide <= span or span - right >= left:
            words = fitting(words, SIZE, span - right - 8)
            words_at = right + 8
        else:
            words = fitting(words, SIZE, left - 8)
            words_at = left - 8 - length(words, SIZE)
        wide = length(words, SIZE)
        begin, stop = min(left, words_at), max(right, words_at + wide)
        row = next((row for row, end in enumerate(free) if end <= begin), len(free))
        free[row : row + 1] = [stop + 18]
        found.append(Placed(bar, words, left, right, words_at, wide, inside, row))
    return found


def _bar(draw: Canvas, item: Placed, top: int) -> None:
    middle = top + item.row * ROW + ROW // 2
    box = (GUTTER + item.left, middle - BAR // 2, GUTTER + item.right, middle + BAR // 2)
    dark = sum(item.bar.ink) < 150  # black on the dark page needs an edge
    draw.rounded_rectangle(box, 5, item.bar.ink, QUIET if dark else None, 2 if dark else 0)
    ink = contrast(item.bar.ink) if item.inside else TEXT
    draw.text((GUTTER + item.words_at, middle), item.words, ink, font(SIZE), anchor="lm")


def _cuts(draw: Canvas, scene: Scene, span: int, head: int, base: int) -> None:
    for cut in scene.cuts:
        left = GUTTER + round(span * cut / scene.duration)
        draw.text((left, head // 2 - 2), "cut", QUIET, font(SIZE), anchor="mm")
        for top in range(head, base, 12):
            draw.line((left, top, left, top + 6), QUIET, 2)


def _axis(draw: Canvas, scene: Scene, marked: Sequence[float], span: int, base: int) -> None:
    """The line of time: a tick a frame where they do not run together, a mark at each panel."""
    draw.line((GUTTER, base, GUTTER + span, base), QUIET, 2)
    if scene.frames <= span // 6:
        for time in scene.times:
            left = GUTTER + round(span * time / scene.duration)
            draw.line((left, base, left, base + 6), QUIET, 1)
    for time in marked:
        left = GUTTER + round(span * time / scene.duration)
        draw.polygon([(left - 6, base + 11), (left + 6, base + 11), (left, base + 2)], KEPT)
    step = _step(scene.duration)
    for mark in range(int(scene.duration / step) + 1):
        left = GUTTER + round(span * mark * step / scene.duration)
        anchor = "ma" if 30 < left - GUTTER < span - 40 else "la" if left == GUTTER else "ra"
        draw.text((left, base + 18), clock(mark * step), QUIET, font(SIZE), anchor=anchor)


def _step(duration: float) -> float:
    """Seconds between the marks of the axis: at most eight or so of them."""
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600):
        if duration / step <= 8:
            return step
    return duration / 8
