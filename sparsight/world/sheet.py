"""A contact sheet: what a scene shows, what happens in it and when, and what is asked about it.

Drawn with Pillow alone. Scenes stand below each other: of a film its frames in rows, the events
over time and the questions; of a picture the questions beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sparsight.measure.panels import clock
from sparsight.measure.pictures import BACKGROUND, GAP, KEPT, MARGIN, QUIET, TEXT, WIDTH
from sparsight.world.lettering import (
    Canvas,
    Ink,
    beside,
    blank,
    contrast,
    font,
    length,
    stacked,
    text_block,
)
from sparsight.world.library import Library
from sparsight.world.paint import paint
from sparsight.world.request import Asked
from sparsight.world.scene import Scene, Thing, boxes
from sparsight.world.strip import GUTTER, ink_of, strip
from sparsight.world.tasks import Question
from sparsight.world.truth import names

MOST = 12  # frames that are drawn of one film
TALLEST = 700  # pixels of a panel
SIZE = 24  # of the words
LINE = 3  # pixels that the line around a thing is wide
SIDE = 448  # pixels that the shorter side of a scene is painted at

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Panel:
    """One frame at `time` seconds: picture (H, W, 3) uint8, boxes (K, 4) in shares, NaN where a
    thing does not exist, and whether any of each thing is to be seen, (K,) bool."""

    picture: np.ndarray
    time: float
    boxes: np.ndarray
    seen: np.ndarray
    labels: tuple[str, ...]
    inks: tuple[Ink, ...]


def contact_sheet(asked: Sequence[Asked], library: Library | None = None) -> Image.Image:
    """Draw scenes with their truth and their questions, 1,600 pixels wide."""
    width = WIDTH - 2 * MARGIN
    small = all(not item.scene.is_film and len(item.questions) <= 3 for item in asked)
    columns = 2 if small and len(asked) > 1 else 1
    wide = (width - 2 * GAP * (columns - 1)) // columns
    blocks = [_scene(item, wide, library) for item in asked]
    rows = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    body = stacked([beside(row, 2 * GAP) for row in rows], 3 * GAP)
    page = Image.new("RGB", (WIDTH, body.height + 2 * MARGIN), BACKGROUND)
    page.paste(body, (MARGIN, MARGIN))
    return page


def _scene(item: Asked, width: int, library: Library | None) -> Image.Image:
    scene = item.scene
    panels = panels_of(scene, library)
    if scene.is_film:
        blocks = [
            _rows(panels, width),
            strip(scene, [panel.time for panel in panels], width),
            _questions(item.questions, width, columns=2),
        ]
        return stacked([_title(scene, width), *blocks], GAP)
    shape = scene.height / scene.width
    left = min(round(TALLEST / shape), width // 2)
    picture = drawn(panels[0], (left, round(left * shape)))
    right = width - left - 2 * GAP
    beside_it = [_title(scene, right), _questions(item.questions, right, columns=1)]
    return beside([picture, stacked(beside_it, GAP)], 2 * GAP)


def panels_of(scene: Scene, library: Library | None) -> list[Panel]:
    """The frames that are drawn: all of few; of many evenly spread ones that show every event."""
    times = scene.times[_drawn_frames(scene)]
    painted = paint(scene, times, SIDE, library=library)
    owners = np.asarray(painted.owners)
    found = boxes(scene, times)
    called = names(scene)
    return [
        Panel(
            picture=np.asarray(picture),
            time=float(time),
            boxes=box,
            seen=np.array([(owner == k + 1).any() for k in range(len(scene.things))], bool),
            labels=tuple(
                _label(thing, name, time) for thing, name in zip(scene.things, called, strict=True)
            ),
            inks=tuple(
                ink_of(thing.looks.at(time), place) for place, thing in enumerate(scene.things)
            ),
        )
        for picture, time, box, owner in zip(painted.frames, times, found, owners, strict=True)
    ]


def _drawn_frames(scene: Scene) -> list[int]:
    even = np.linspace(0, scene.frames - 1, min(scene.frames, MOST)).round().astype(int)
    free = set(even.tolist())  # those that may give way to a frame of an event
    kept: set[int] = set()
    for event in scene.events:
        first = int(np.ceil(event.start * scene.fps - 1e-6))
        last = max(first, int(np.ceil(event.end * scene.fps - 1e-6)) - 1)
        shows = {frame for frame in free | kept if first <= frame <= last}
        if not shows and free:
            middle = min((first + last) // 2, scene.frames - 1)
            free.remove(min(free, key=lambda frame: abs(frame - middle)))
            shows = {middle}
        kept |= shows
        free -= shows
    return sorted(free | kept)


def _label(thing: Thing, name: str, time: float) -> str:
    """What a thing is called at an instant; of a sign also what it says."""
    look = thing.looks.at(time)
    if look.kind == "sign":
        return f'{look.color} "{look.name}"'
    return name if len(thing.looks.values) == 1 else look.phrase


# ---- the parts of a scene ----------------------------------------------------------------------


def _title(scene: Scene, width: int) -> Image.Image:
    """Where the scene comes from, and how long it is."""
    image, draw = blank(width, 40)
    told = f"{scene.split}, seed {scene.seed}"
    draw.text((0, 20), told, TEXT, font(30 if width > WIDTH // 3 else SIZE), anchor="lm")
    if scene.is_film:
        length_of = f"{scene.frames:,} frames at {scene.fps:g} a second, {clock(scene.duration)}"
        draw.text((width, 20), length_of, QUIET, font(SIZE), anchor="rm")
    return image


def _rows(panels: Sequence[Panel], width: int) -> Image.Image:
    """The panels in rows, each with its time below."""
    shape = panels[0].picture.shape[0] / panels[0].picture.shape[1]
    most = 2 if shape < 0.45 else 4 if shape < 1.5 else 6
    columns = -(-len(panels) // -(-len(panels) // most))  # rows of even length
    wide = (width - GAP * (columns - 1)) // columns
    high = min(TALLEST, round(wide * shape))
    size = (round(high / shape), high)
    below = [_captioned(panel, size) for panel in panels]
    rows = [below[start : start + columns] for start in range(0, len(below), columns)]
    return stacked([beside(row, GAP) for row in rows], GAP // 2)


def _captioned(panel: Panel, size: tuple[int, int]) -> Image.Image:
    caption, draw = blank(size[0], 30)
    draw.text((0, 15), clock(panel.time), QUIET, font(20), anchor="lm")
    return stacked([drawn(panel, size), caption], 2)


def _questions(asked: Sequence[Question], width: int, columns: int) -> Image.Image:
    """Each question with its task before and its answer after it, in one column or two."""
    if not asked:
        return text_block("nothing can be asked of this scene", SIZE, QUIET, width)
    columns = min(columns, len(asked))
    wide = (width - 2 * GAP * (columns - 1)) // columns
    cards = [_card(question, wide) for question in asked]
    if columns == 1:
        return stacked(cards, GAP)
    heights = np.cumsum([card.height + GAP for card in cards])
    half = 1 + int(np.abs(heights - heights[-1] / 2)[:-1].argmin())
    return beside([stacked(cards[:half], GAP), stacked(cards[half:], GAP)], 2 * GAP)


def _card(question: Question, width: int) -> Image.Image:
    right = width - GUTTER
    said = [
        text_block(question.text, SIZE, TEXT, right),
        text_block(question.answer, SIZE, KEPT, right),
    ]
    return beside([text_block(question.task, 20, QUIET, GUTTER), stacked(said, 2)], 0)


# ---- one frame ---------------------------------------------------------------------------------


def drawn(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """The frame at (width, height) pixels with the box and the name of each thing.

    The box of a thing that others hide is dashed.
    """
    image = Image.fromarray(panel.picture).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    places = _places(panel.boxes, size)
    for place, box in places.items():
        _outline(draw, box, panel.inks[place], dashed=not panel.seen[place])
    taken: list[Box] = []
    for place, box in places.items():
        words, ink = panel.labels[place], panel.inks[place]
        taken.append(_tag(draw, box, words, ink, size, taken, list(places.values())))
    return image


def _places(boxes: np.ndarray, size: tuple[int, int]) -> dict[int, Box]:
    """The things that lie in the picture, with their boxes in pixels."""
    scale = np.array([size[0] - 1, size[1] - 1] * 2)
    found = {}
    for place, box in enumerate(boxes):
        if np.isfinite(box).all():
            x0, y0, x1, y1 = (box.clip(0, 1) * scale).round().astype(int).tolist()
            if x1 > x0 and y1 > y0:
                found[place] = (x0, y0, x1, y1)
    return found


def _outline(draw: Canvas, box: Box, ink: Ink, dashed: bool) -> None:
    """A line in the thing's color around the box, between two that set it off from all colors."""
    x0, y0, x1, y1 = box[0] - LINE, box[1] - LINE, box[2] + LINE, box[3] + LINE
    if not dashed:
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), None, contrast(ink), LINE + 2)
        draw.rectangle((x0, y0, x1, y1), None, ink, LINE)
        return
    for left in range(x0, x1, 14):
        for top in (y0, y1):
            draw.line((left, top, min(left + 7, x1), top), ink, LINE)
    for top in range(y0, y1, 14):
        for left in (x0, x1):
            draw.line((left, top, left, min(top + 7, y1)), ink, LINE)


def _tag(
    draw: Canvas,
    box: Box,
    words: str,
    ink: Ink,
    size: tuple[int, int],
    taken: Sequence[Box],
    others: Sequence[Box],
) -> Box:
    """The name at that corner of the box where it covers least of other names and of things."""
    letters = 18 if size[0] >= 300 else 15
    wide, high = length(words, letters) + 10, letters + 8
    x0, y0, x1, y1 = box[0] - LINE, box[1] - LINE, box[2] + LINE, box[3] + LINE
    spots: list[Box] = []
    for top in (y0 - high, y1 + 1, y0, y1 - high):
        for left in (x0, x1 - wide, x1 + 2, x0 - wide - 2):
            left = min(max(0, left), size[0] - wide)
            top = min(max(0, top), size[1] - high)
            spots.append((left, top, left + wide, top + high))

    def covered(spot: Box) -> int:
        names = sum(_shared(spot, name) for name in taken)
        return 5 * names + sum(_shared(spot, thing) for thing in others)

    spot = min(spots, key=covered)
    draw.rectangle(spot, ink, contrast(ink))
    draw.text((spot[0] + 5, (spot[1] + spot[3]) // 2), words, contrast(ink), font(letters), "lm")
    return spot


def _shared(a: Box, b: Box) -> int:
    """Pixels that two boxes have in common."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, wide) * max(0, high)
