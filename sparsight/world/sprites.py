"""The pictures of things, each drawn once, as fields of signed distance.

A field holds, at every texel, how far the nearest edge is (inside positive, in heights of the
box), so one small drawing gives soft but crisp edges at any size and angle: the share of a pixel
that is covered is about distance in pixels + 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sparsight.core.errors import unknown
from sparsight.world.fonts import FONTS, Font, font_of, glyph
from sparsight.world.library import Library
from sparsight.world.scene import COLORS, SHAPES, Look

__all__ = ["CORE", "FONTS", "MARGIN", "SIGN_LETTERS", "Sprite", "sign_aspect", "sprite"]

CORE = 64  # texels over the height of a box
MARGIN = 8  # texels around the box, so that edges fade within the drawing
#: Height of a sign's capitals over the height of its plate.
SIGN_LETTERS = 0.6

_FINE = 5  # masks are drawn this much larger; odd, so that a texel's centre is a pixel's centre
_OUTSIDE = -1.0  # the value of the outermost texels: far from any edge, whatever the size
_CAPITAL = round(CORE * SIGN_LETTERS)
_PAD = 10  # texels of plate left and right of the text
_LIGHT_PLATE, _DARK_PLATE = (236, 234, 226), (38, 40, 46)


@dataclass(frozen=True, eq=False)
class Sprite:
    """A thing's picture on CORE texels of height.

    outline (h, w) float32: signed distance to its edge, MARGIN texels around the box included.
    ink (h, w) float32 or None: signed distance to the edge of what is written on it.
    photo (h, w, 3) float32 or None: its own colors, 0 to 255.
    face, pen: RGB of the plate and of the ink; of everything else `face` is the color.
    """

    outline: np.ndarray
    face: tuple[int, int, int]
    ink: np.ndarray | None = None
    pen: tuple[int, int, int] = (0, 0, 0)
    photo: np.ndarray | None = None

    @property
    def alpha(self) -> np.ndarray:
        """(CORE, w) float32 in 0..1: how much of each texel of the box it covers."""
        return _coverage(self.outline)

    @property
    def rgb(self) -> np.ndarray | None:
        """(CORE, w, 3) float32 in 0..255, None where `face` is the only color."""
        if self.photo is not None:
            return _inner(self.photo)
        if self.ink is None:
            return None
        face, pen = np.array(self.face, np.float32), np.array(self.pen, np.float32)
        return face + _coverage(self.ink)[..., None] * (pen - face)


def sprite(look: Look, library: Library | None = None) -> Sprite:
    """The picture of a look; the latest ones are kept.

    UserError: an unknown shape, color or character, or a digit or class the library lacks.
    """
    if look.kind in ("digit", "sprite"):
        drawn = _from_library(library or Library(), look.kind, look.name, look.variant)
    elif look.kind == "sign":
        return _sign(look.name, look.variant % len(FONTS), _color(look.color))
    else:
        drawn = _flat(look.kind, look.name, look.variant % len(FONTS))
    if look.kind == "sprite":
        return drawn
    return Sprite(drawn.outline, _color(look.color))


@lru_cache(maxsize=1)
def pointer() -> Sprite:
    """The arrow of a mouse, white with a black rim; it points with its top left corner."""
    side = CORE * _FINE
    corners = [(0, 0), (0, 0.9), (0.21, 0.7), (0.36, 1), (0.5, 0.93), (0.36, 0.65), (0.64, 0.65)]
    image = Image.new("1", (side, side))
    ImageDraw.Draw(image).polygon([(x * side, y * side) for x, y in corners], fill=1)
    outline = _field(np.pad(np.asarray(image, bool), MARGIN * _FINE))
    return Sprite(outline, (20, 20, 20), ink=_fenced(outline - 0.07), pen=(250, 250, 250))


def sign_aspect(text: str, variant: int) -> float:
    """Width over height of the plate that carries `text` in font `variant`."""
    return _sign_width(text, font_of(variant)) / CORE


def _color(name: str) -> tuple[int, int, int]:
    if name not in COLORS:
        raise unknown("color", name, COLORS)
    return COLORS[name]


# Fields


def _field(mask: np.ndarray) -> np.ndarray:
    """Signed distance, in heights of the box, of a mask drawn _FINE times as large as its texels.

    mask (h * _FINE, w * _FINE) bool -> (h, w) float32, exact to about a tenth of a texel within
    MARGIN texels of the edge and clipped there.
    """
    reach = MARGIN * _FINE
    middle = _FINE // 2

    def away(solid: np.ndarray) -> np.ndarray:
        """Distance of the texels' centres to the nearest pixel of `solid`, up to `reach`."""
        tall, wide = solid.shape
        # Along each row: the distance to the nearest solid pixel on either side.
        place = np.arange(wide, dtype=np.int32)
        left = np.maximum.accumulate(np.where(solid, place, -reach), axis=1)
        right = np.minimum.accumulate(np.where(solid, place, wide + reach)[:, ::-1], axis=1)
        columns = slice(middle, None, _FINE)
        here = place[columns]
        row = np.minimum(here - left[:, columns], right[:, ::-1][:, columns] - here)
        square = np.pad(np.minimum(row, reach) ** 2, ((reach, reach), (0, 0)), "edge")
        best = np.full((tall // _FINE, wide // _FINE), reach**2, np.int32)
        for step in range(-reach, reach + 1):
            start = reach + middle + step
            np.minimum(best, square[start : start + tall : _FINE][: len(best)] + step**2, out=best)
        return np.sqrt(best.astype(np.float32))

    inside, outside = away(~mask), away(mask)
    distance = np.where(inside > 0, inside - 0.5, 0.5 - outside) / (_FINE * CORE)
    return _fenced(distance.astype(np.float32))


def _fenced(field: np.ndarray) -> np.ndarray:
    """The field with its outermost texels far outside, so that nothing shows beyond it."""
    field[[0, -1]] = _OUTSIDE
    field[:, [0, -1]] = _OUTSIDE
    return field


def _box_field(width: int, radius: float) -> np.ndarray:
    """A box of CORE x `width` texels with round corners of `radius` texels."""
    y = np.abs(np.arange(CORE + 2 * MARGIN) + 0.5 - MARGIN - CORE / 2)[:, None] - CORE / 2 + radius
    x = np.abs(np.arange(width + 2 * MARGIN) + 0.5 - MARGIN - width / 2)[None] - width / 2 + radius
    outer = np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0)
    return _fenced(((radius - outer) / CORE).astype(np.float32))


def _coverage(field: np.ndarray) -> np.ndarray:
    return np.clip(_inner(field) * CORE + 0.5, 0, 1)


def _inner(picture: np.ndarray) -> np.ndarray:
    return picture[MARGIN:-MARGIN, MARGIN:-MARGIN]


# Shapes, letters


@lru_cache(maxsize=512)
def _flat(kind: str, name: str, font: int) -> Sprite:
    """A shape or letter in its square box."""
    side = CORE * _FINE
    mask = _letter(name, FONTS[font], side) if kind == "letter" else _shape(name, side)
    return Sprite(_field(np.pad(mask, MARGIN * _FINE)), (0, 0, 0))


def _shape(name: str, side: int) -> np.ndarray:
    image = Image.new("1", (side, side))
    draw = ImageDraw.Draw(image)
    last = side - 1
    if name == "circle":
        draw.ellipse((0, 0, last, last), fill=1)
    elif name == "ring":
        draw.ellipse((0, 0, last, last), fill=1)
        rim = side * 0.21
        draw.ellipse((rim, rim, last - rim, last - rim), fill=0)
    elif name == "square":
        draw.rectangle((0, 0, last, last), fill=1)
    elif name == "triangle":
        draw.polygon([(last / 2, 0), (last, last), (0, last)], fill=1)
    elif name == "cross":
        arm = side * 0.34
        draw.rectangle((arm, 0, last - arm, last), fill=1)
        draw.rectangle((0, arm, last, last - arm), fill=1)
    elif name == "star":
        # Its five points reach the box on all four sides.
        radius = [1.0, 0.42]
        x = [radius[k % 2] * math.sin(k * math.pi / 5) for k in range(10)]
        y = [-radius[k % 2] * math.cos(k * math.pi / 5) for k in range(10)]
        points = [
            ((a - min(x)) / (max(x) - min(x)) * last, (b - min(y)) / (max(y) - min(y)) * last)
            for a, b in zip(x, y, strict=True)
        ]
        draw.polygon(points, fill=1)
    else:
        raise unknown("shape", name, SHAPES)
    return np.asarray(image, bool)


def _letter(name: str, font: Font, side: int) -> np.ndarray:
    """A capital stretched to fill its square box, bolder than on a sign."""
    mask, _ = glyph(name, replace(font, stroke=font.stroke + 0.035), side, side // 4, side // 4)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = Image.fromarray(tight).resize((side, side), Image.Resampling.NEAREST)
    return np.asarray(image, bool)


# Digits, photographs


@lru_cache(maxsize=4096)
def _from_library(library: Library, kind: str, name: str, variant: int) -> Sprite:
    if kind == "digit":
        return Sprite(_strokes(library.digit(name, variant)), (0, 0, 0))
    picture = Image.fromarray(library.photo(name, variant))
    photo = np.asarray(picture.resize((CORE, CORE), Image.Resampling.LANCZOS), np.float32)
    photo = np.pad(photo, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "edge")
    return Sprite(_box_field(CORE, CORE * 0.12), (0, 0, 0), photo=photo)


def _strokes(ink: np.ndarray) -> np.ndarray:
    """The field of a handwritten digit (h, w) in 0..1.

    A point is ink where it is darker than what is around it: faint strokes stay whole, and the
    holes between heavy ones stay open. By how much it is darker, over the slope of that, is about
    the distance to the edge; exactly so near the edge, where it matters.
    """
    room = 2  # of nothing around the digit
    low = Image.fromarray(np.rint(np.pad(ink, room) * 255).astype(np.uint8))
    around = np.asarray(low.filter(ImageFilter.GaussianBlur(1)), np.float32)
    darker = Image.fromarray(np.asarray(low, np.float32) - 0.8 * around - 0.1 * 255)
    side = CORE + 2 * MARGIN
    left, top = (room - length * MARGIN / CORE for length in ink.shape[::-1])
    box = (left, top, low.width - left, low.height - top)
    large = np.asarray(darker.resize((side, side), Image.Resampling.BICUBIC, box))
    slope = np.maximum(np.hypot(*np.gradient(large)), 1e-3)
    return _fenced(np.clip(large / slope, -MARGIN, MARGIN) / CORE)


# Signs


@lru_cache(maxsize=512)
def _sign(text: str, font: int, pen: tuple[int, int, int]) -> Sprite:
    """A plate with text of the color `pen`, light or dark so that it can be read."""
    bright = 0.3 * pen[0] + 0.59 * pen[1] + 0.11 * pen[2] > 135
    width = _sign_width(text, FONTS[font])
    ink = np.full((CORE + 2 * MARGIN, width + 2 * MARGIN), _OUTSIDE, np.float32)
    at = MARGIN + _PAD - FONTS[font].slant * _CAPITAL / 4  # what leans stands in the middle
    for character in text:
        field, advance = _glyph(character, font)
        left = round(at) - _GLYPH_ROOM
        first, last = max(left, 0), min(left + field.shape[1], ink.shape[1])
        spot = ink[MARGIN:-MARGIN, first:last]
        np.maximum(spot, field[:, first - left : last - left], out=spot)
        at += advance
    face = _DARK_PLATE if bright else _LIGHT_PLATE
    return Sprite(_box_field(width, 8), face, ink=ink, pen=pen)


_GLYPH_ROOM = (CORE - _CAPITAL) // 2  # over a capital, under its baseline, left of the pen


@lru_cache(maxsize=1024)
def _glyph(character: str, font: int) -> tuple[np.ndarray, float]:
    """A character's field (CORE, w), the pen _GLYPH_ROOM texels from its left, and its advance
    in texels."""
    room = _GLYPH_ROOM * _FINE
    below = (CORE - _CAPITAL - _GLYPH_ROOM) * _FINE
    mask, advance = glyph(character, FONTS[font], _CAPITAL * _FINE, room, below)
    spare = -mask.shape[1] % _FINE
    field = _field(np.pad(mask, ((0, 0), (0, spare + _FINE))))
    return field, advance / _FINE


def _sign_width(text: str, font: Font) -> int:
    index = FONTS.index(font)
    advance = sum(_glyph(character, index)[1] for character in text)
    return round(max(advance, CORE / 4)) + 2 * _PAD
