"""One PNG of a reply's token maps: kept tokens bright, dropped ones dimmed, merged ones outlined.

Drawn with Pillow alone, so that it needs no extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sparsight.measure.panels import MOST, Drawing, Medium, Panel, clock, medium_of, some

WIDTH = 1600  # pixels of the whole picture
MARGIN, GAP = 48, 20
BACKGROUND, DROPPED = (17, 19, 23), (50, 54, 63)
TEXT, QUIET = (236, 238, 241), (146, 153, 164)
KEPT, MERGED = (108, 180, 238), (247, 201, 104)
TALLEST = 660  # pixels of a panel

Canvas = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


def picture_of_tokens(drawings: Sequence[Drawing], title: str = "") -> Image.Image:
    """Draw token maps on the pictures they were made of.

    Args:
        drawings: for each medium its token map and its pictures, uint8 (F, H, W, 3): the one
            picture, or the frames `TokenMap.frames` of a film.
        title: a line above everything, such as the question.
    """
    blocks = [_heading(title)] if title else []
    media = [medium_of(drawing) for drawing in drawings]
    for medium in media:
        blocks += [_counts(medium), _panels(medium)]
        if medium.film:
            blocks.append(_strip(medium))
    blocks.append(_legend(media))
    height = sum(block.height for block in blocks) + GAP * (len(blocks) - 1) + 2 * MARGIN
    page = Image.new("RGB", (WIDTH, height), BACKGROUND)
    top = MARGIN
    for block in blocks:
        page.paste(block, (MARGIN, top))
        top += block.height + GAP
    return page


# ---- the parts of the page ---------------------------------------------------------------------


def _heading(title: str) -> Image.Image:
    block, draw = _blank(48)
    draw.text((0, 0), _fitting(title, 36, block.width), TEXT, _font(36))
    return block


def _counts(medium: Medium) -> Image.Image:
    block, draw = _blank(34)
    draw.text((0, 4), medium.counts, TEXT, _font(24))
    origin = _fitting(medium.origin, 24, 420)
    draw.text((block.width, 4), origin, QUIET, _font(24), anchor="ra")
    return block


def _panels(medium: Medium) -> Image.Image:
    """The panels in rows, each with its caption below."""
    chosen = some(medium.panels)
    columns = _columns(len(chosen), max(_shape(panel) for panel in chosen))
    width = (WIDTH - 2 * MARGIN - GAP * (columns - 1)) // columns
    heights = [min(TALLEST, round(width * _shape(panel))) for panel in chosen]
    size = 22 if columns <= 4 else 18
    rows = [
        range(start, min(start + columns, len(chosen))) for start in range(0, len(chosen), columns)
    ]
    tall = [max(heights[i] for i in row) + size + 16 for row in rows]
    block, draw = _blank(sum(tall) + GAP * (len(rows) - 1))
    top = 0
    for row, height in zip(rows, tall, strict=True):
        for column, place in enumerate(row):
            panel, left = chosen[place], column * (width + GAP)
            drawn = paint(panel, (round(heights[place] / _shape(panel)), heights[place]))
            block.paste(drawn, (left, top))
            below = top + drawn.height + 8
            draw.text((left, below), panel.caption, TEXT, _font(size))
            told = f"{panel.kept} of {panel.seen}"
            draw.text((left + drawn.width, below), told, QUIET, _font(size), anchor="ra")
        top += height + GAP
    return block


def _strip(medium: Medium) -> Image.Image:
    """Tokens over time: a bar a frame, the kept ones filled, at the time of the frame."""
    frames = [panel for panel in medium.panels if panel.time is not None]
    block, draw = _blank(110)
    wide, base = block.width, 74
    most = max((panel.seen for panel in frames), default=1) or 1
    step = wide / max(1, len(frames))
    gap = min(10.0, step * 0.2)
    for place, panel in enumerate(frames):
        left, right = round(place * step + gap / 2), round((place + 1) * step - gap / 2) - 1
        seen, kept = (round(base * count / most) for count in (panel.seen, panel.kept))
        draw.rectangle((left, base - seen, right, base), DROPPED)
        if kept:
            draw.rectangle((left, base - kept, right, base), KEPT)
    for place in _marks(len(frames)):
        at = frames[place].time
        assert at is not None
        centre = (place + 0.5) * step
        draw.text((centre, base + 10), clock(at), QUIET, _font(18), anchor="ma")
    return block


def _legend(media: Sequence[Medium]) -> Image.Image:
    """What the brightness and the outlines mean; only of what is there."""
    block, draw = _blank(30)
    items = [("kept", KEPT, False), ("dropped", DROPPED, False)]
    if any(medium.dropped_inside for medium in media):
        red, green, blue = ((a + b) // 2 for a, b in zip(KEPT, DROPPED, strict=True))
        between = (red, green, blue)
        items.insert(1, ("dropped inside the LLM: the later, the brighter", between, False))
    if any(medium.merged for medium in media):
        items.append(("merged of several", MERGED, True))
    left = 0
    for words, colour, outlined in items:
        draw.rectangle((left, 6, left + 18, 24), None if outlined else colour, colour, 2)
        draw.text((left + 30, 3), words, QUIET, _font(20))
        left += 30 + round(draw.textlength(words, _font(20))) + 40
    drawn = [medium for medium in media if len(medium.panels) > MOST]
    if drawn:
        told = f"{MOST} of {len(drawn[0].panels)} panels drawn"
        draw.text((block.width, 3), told, QUIET, _font(20), anchor="ra")
    return block


# ---- one panel ---------------------------------------------------------------------------------


def paint(panel: Panel, size: tuple[int, int]) -> Image.Image:
    """One panel at (width, height) pixels."""
    if panel.picture is None:
        picture = np.full((size[1], size[0], 3), 205, np.uint8)
    else:
        resized = Image.fromarray(panel.picture).resize(size, Image.Resampling.LANCZOS)
        picture = np.asarray(resized)
    level = brightness(panel, size)[..., None]
    grey = picture.mean(-1, keepdims=True)
    dimmed = 0.24 * (0.25 * picture + 0.75 * grey) + 0.76 * np.array(DROPPED)
    pixels = level * picture + (1 - level) * dimmed
    edge = _edge(level[..., 0] > 0)
    pixels[edge] = 0.45 * pixels[edge] + 0.55 * np.array(KEPT)
    image = Image.fromarray(pixels.round().astype(np.uint8))
    _outline(ImageDraw.Draw(image, "RGBA"), panel, size)
    return image


def brightness(panel: Panel, size: tuple[int, int]) -> NDArray[np.float32]:
    """(height, width) in 0..1: 1 where a token lived through the LLM, 0 where it was dropped."""
    level = np.zeros((size[1], size[0]), np.float32)
    shares = np.where(panel.layers >= panel.depth, 1.0, 0.2 + 0.4 * panel.layers / panel.depth)
    for (x0, y0, x1, y1), share in zip(_pixels(panel.lit, size), shares, strict=True):
        area = level[y0:y1, x0:x1]
        np.maximum(area, share, out=area)
    return level


def _edge(lit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The lit pixels that touch a dark one: on a dark picture brightness alone does not tell."""
    around = np.pad(lit, 1, mode="edge")
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return lit & ~inner


def _outline(draw: Canvas, panel: Panel, size: tuple[int, int]) -> None:
    merged = panel.merged
    for x0, y0, x1, y1 in _pixels(panel.box[merged], size):
        if x1 > x0 and y1 > y0:
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), None, (*MERGED, 190), 1)


def _pixels(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int64]:
    """Boxes in shares -> whole pixels inside the picture, neighbours meeting without a gap."""
    scale = np.array([size[0], size[1]] * 2)
    return (boxes.clip(0, 1) * scale).round().astype(np.int64)


# ---- measures ----------------------------------------------------------------------------------


def _blank(height: int) -> tuple[Image.Image, Canvas]:
    image = Image.new("RGB", (WIDTH - 2 * MARGIN, height), BACKGROUND)
    return image, ImageDraw.Draw(image)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitting(text: str, size: int, width: int) -> str:
    """The text on one line, cut with an ellipsis where it is longer than `width` pixels."""
    text = " ".join(text.split())
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _shape(panel: Panel) -> float:
    """Height over width."""
    return 1.0 if panel.picture is None else panel.picture.shape[0] / panel.picture.shape[1]


def _columns(panels: int, shape: float) -> int:
    """How many panels stand in a row: few large ones, many small ones."""
    wanted = panels if panels <= 4 else 4 if panels <= 8 else 6 if panels <= 18 else 8
    return max(wanted, 2 if panels > 1 or shape > 0.5 else 1)


def _marks(bars: int) -> list[int]:
    """Which bars of the strip carry their time: all of few, evenly spread ones of many."""
    marks = min(bars, 8)
    if marks <= 1:
        return list(range(bars))
    return sorted({round(place * (bars - 1) / (marks - 1)) for place in range(marks)})
