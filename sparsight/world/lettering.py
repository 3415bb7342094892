"""Words on drawings: fonts, lines that fit, and blocks put below each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from sparsight.measure.pictures import BACKGROUND

Canvas = ImageDraw.ImageDraw
Ink = tuple[int, int, int]


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def length(text: str, size: int) -> int:
    """Pixels that the text is wide."""
    return round(font(size).getlength(text))


def wrapped(text: str, size: int, width: int) -> list[str]:
    """The text in lines of at most `width` pixels; a longer word has its line to itself."""
    found: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and length(longer, size) > width:
                found.append(line)
                line = word
            else:
                line = longer
        found.append(line)
    return found


def fitting(text: str, size: int, width: int) -> str:
    """The text, cut off with dots where it is longer than `width` pixels."""
    if length(text, size) <= width:
        return text
    while text and length(text + "...", size) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def text_block(text: str, size: int, ink: Ink, width: int) -> Image.Image:
    """Wrapped text as a picture of its own."""
    rows = wrapped(text, size, width)
    step = round(size * 1.35)
    image, draw = blank(width, step * len(rows))
    for place, row in enumerate(rows):
        draw.text((0, place * step + step // 2), row, ink, font(size), anchor="lm")
    return image


def contrast(ink: Ink) -> Ink:
    """Black or white, whichever is read better on `ink`."""
    red, green, blue = ink
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def blank(width: int, height: int) -> tuple[Image.Image, Canvas]:
    image = Image.new("RGB", (max(1, width), max(1, height)), BACKGROUND)
    return image, ImageDraw.Draw(image)


def stacked(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Blocks below each other, flush left."""
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    image, _ = blank(max(block.width for block in blocks), height)
    top = 0
    for block in blocks:
        image.paste(block, (0, top))
        top += block.height + gap
    return image


def beside(blocks: Sequence[Image.Image], gap: int) -> Image.Image:
    """Blocks next to each other, flush at the top."""
    width = sum(block.width for block in blocks) + gap * (len(blocks) - 1)
    image, _ = blank(width, max(block.height for block in blocks))
    left = 0
    for block in blocks:
        image.paste(block, (left, 0))
        left += block.width + gap
    return image
