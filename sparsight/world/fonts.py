"""The fonts of signs and letters: Pillow's own font in several cuts, and a blocky one drawn here.

Nothing depends on the fonts of a machine, so a scene looks the same everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sparsight.core.errors import UserError


@dataclass(frozen=True)
class Font:
    """A cut of a font. `stroke` thickens its lines by that share of the height of a capital on
    either side, `slant` leans them (x over y), `width` stretches them, `blocky` takes the 5 x 7
    dots below in place of Pillow's outlines."""

    name: str
    stroke: float = 0.0
    slant: float = 0.0
    width: float = 1.0
    blocky: bool = False


FONTS = (
    Font("plain", stroke=0.015),
    Font("bold", stroke=0.06),
    Font("slanted", stroke=0.02, slant=0.28),
    Font("wide", stroke=0.03, width=1.4),
    Font("narrow", stroke=0.03, width=0.72),
    Font("blocky", blocky=True),
)

# Seven rows of five dots a sign, each row a number of five bits.
_DOTS = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 14),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 27, 17),
    "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
    "Z": (31, 1, 2, 4, 8, 16, 31),
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 6, 8, 16, 31),
    "3": (31, 1, 2, 6, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    ".": (0, 0, 0, 0, 0, 12, 12),
    ",": (0, 0, 0, 0, 4, 4, 8),
    "!": (4, 4, 4, 4, 4, 0, 4),
    "?": (14, 17, 1, 2, 4, 0, 4),
    ":": (0, 12, 12, 0, 12, 12, 0),
    "-": (0, 0, 0, 31, 0, 0, 0),
    "+": (0, 4, 4, 31, 4, 4, 0),
    "/": (1, 1, 2, 4, 8, 16, 16),
    "'": (4, 4, 8, 0, 0, 0, 0),
    "&": (12, 18, 20, 8, 21, 18, 13),
}


def font_of(variant: int) -> Font:
    return FONTS[variant % len(FONTS)]


@lru_cache(maxsize=8)
def _outlines(capital: int) -> tuple[ImageFont.FreeTypeFont, float]:
    """Pillow's font with capitals `capital` pixels high, and the y of their top."""
    size = 1000
    probe = ImageFont.load_default(size)
    assert isinstance(probe, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    _, top, _, bottom = probe.getbbox("H")
    scale = capital / (bottom - top)
    font = ImageFont.load_default(size * scale)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font, top * scale


def glyph(sign: str, font: Font, capital: int, above: int, below: int) -> tuple[np.ndarray, float]:
    """One character in black and white, and how far the pen moves on.

    capital: height of a capital in pixels; above, below: room over it and under the baseline.
    Returns mask (above + capital + below, w) bool, whose origin lies `above` pixels from its left,
    and the advance in pixels. UserError: the blocky font lacks the character.
    """
    tall = above + capital + below
    if font.blocky:
        dot = capital / 7
        if sign == " ":
            return np.zeros((tall, 2 * above + 1), bool), 4 * dot
        rows = _DOTS.get(sign.upper())
        if rows is None:
            raise UserError(
                f"the blocky font has no {sign!r}: it has A to Z, 0 to 9 and {''.join(_DOTS)[36:]}"
            )
        dots = np.array([[row >> place & 1 for place in (4, 3, 2, 1, 0)] for row in rows], bool)
        y = np.arange(capital) * 7 // capital
        x = np.arange(round(5 * dot)) * 5 // round(5 * dot)
        mask = np.zeros((tall, 2 * above + len(x)), bool)
        mask[above : above + capital, above : above + len(x)] = dots[y][:, x]
        return mask, 6.2 * dot
    outlines, top = _outlines(capital)
    stroke = font.stroke * capital
    advance = outlines.getlength(sign) * font.width + 2 * stroke
    lean = font.slant * tall
    wide = 2 * above + math.ceil(advance + lean + stroke)
    plain = Image.new("L", (math.ceil(wide / font.width) + 2 * above, tall))
    # Where the pen stands, a capital's baseline stays put as the rest leans over it.
    ImageDraw.Draw(plain).text(
        (above, above - top), sign, 255, outlines, stroke_width=stroke, anchor="la"
    )
    base = above + capital
    back = (
        1 / font.width,
        font.slant / font.width,
        above - (above + stroke) / font.width - font.slant * base / font.width,
        0.0,
        1.0,
        0.0,
    )
    image = plain.transform((wide, tall), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
    return np.asarray(image) > 127, advance
