from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.world import atlas
from sparsight.world.atlas import Stack, Wanted, shelf_of
from sparsight.world.library import Library
from sparsight.world.scene import COLORS, DIGITS, LETTERS, SHAPES, Look
from sparsight.world.sprites import (
    CORE,
    FONTS,
    MARGIN,
    SIGN_LETTERS,
    pointer,
    sign_aspect,
    sprite,
)


def sides(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row and column of what is covered."""
    rows, columns = np.flatnonzero((alpha > 0.5).any(1)), np.flatnonzero((alpha > 0.5).any(0))
    return rows[0], rows[-1], columns[0], columns[-1]


@pytest.mark.parametrize(
    "look",
    [
        *(Look("shape", name, "red") for name in SHAPES),
        *(Look("letter", name, "red", font) for name, font in zip(LETTERS, range(10), strict=True)),
    ],
    ids=lambda look: look.name,
)
def test_shapes_and_letters_reach_all_sides_of_their_box(look: Look) -> None:
    alpha = sprite(look).alpha
    assert alpha.shape == (CORE, CORE)
    top, bottom, left, right = sides(alpha)
    assert max(top, left) <= 2  # a tip is thin
    assert min(bottom, right) >= CORE - 3


def test_the_field_is_the_distance_to_the_edge() -> None:
    field = sprite(Look("shape", "circle", "red")).outline
    y, x = np.mgrid[: len(field), : len(field)] + 0.5 - len(field) / 2
    true = (CORE / 2 - np.hypot(x, y)) / CORE
    near = np.abs(true) < (MARGIN - 1) / CORE
    assert np.abs(field - true)[near].max() < 0.2 / CORE
    assert (field[[0, -1]] == -1).all()  # nothing shows beyond the drawing
    assert (field[:, [0, -1]] == -1).all()


def test_shapes_and_letters_differ_in_every_font() -> None:
    for font in range(len(FONTS)):
        looks = [Look("shape", name, "red") for name in SHAPES]
        looks += [Look("letter", name, "red", font) for name in LETTERS]
        for one, two in itertools.combinations(looks, 2):
            assert np.abs(sprite(one).alpha - sprite(two).alpha).mean() > 0.1, (one, two)


def test_fonts_differ() -> None:
    signs = [sprite(Look("sign", "AK3", "red", font)).ink for font in range(len(FONTS))]
    for one, two in itertools.combinations(signs, 2):
        assert one is not None
        assert two is not None
        width = min(one.shape[1], two.shape[1])
        assert ((one[:, :width] > 0) != (two[:, :width] > 0)).mean() > 0.03


def test_color_is_that_of_the_name() -> None:
    assert sprite(Look("shape", "ring", "blue")).face == COLORS["blue"]
    assert sprite(Look("shape", "ring", "blue")).rgb is None


@pytest.mark.parametrize("font", range(len(FONTS)), ids=lambda font: FONTS[font].name)
def test_a_sign_is_as_wide_as_said_and_holds_all_of_its_text(font: int) -> None:
    text = "HXZ 48"
    drawn = sprite(Look("sign", text, "red", font))
    assert drawn.alpha.shape[1] / CORE == pytest.approx(sign_aspect(text, font))
    assert drawn.ink is not None
    ink = np.clip(drawn.ink[MARGIN:-MARGIN, MARGIN:-MARGIN] * CORE + 0.5, 0, 1)
    top, bottom, left, right = sides(ink)
    assert left >= 3
    assert right < ink.shape[1] - 3
    thick = 2 * FONTS[font].stroke
    assert (bottom - top + 1) / CORE == pytest.approx(SIGN_LETTERS * (1 + thick), abs=0.04)
    assert abs((bottom + top + 1) / 2 - CORE / 2) < 2
    columns = (ink > 0.5).any(0).astype(int)
    apart = 3 if FONTS[font].slant else 5
    assert (np.diff(columns) == 1).sum() >= apart  # letters do not run together


def test_text_stands_out_from_its_plate() -> None:
    for color in COLORS:
        drawn = sprite(Look("sign", "A", color))
        assert drawn.pen == COLORS[color]
        assert np.abs(np.array(drawn.pen) - drawn.face).max() > 100, color


def test_rgb_of_a_sign_holds_plate_and_ink() -> None:
    rgb = sprite(Look("sign", "I", "black", 1)).rgb
    assert rgb is not None
    middle = rgb[CORE // 2]
    assert np.abs(middle - COLORS["black"]).sum(1).min() < 6
    assert middle.max() > 220


def test_lower_case_letters_stay_on_their_plate() -> None:
    drawn = sprite(Look("sign", "gypsy", "red", 1))
    assert drawn.ink is not None
    ink = drawn.ink[MARGIN:-MARGIN] * CORE + 0.5
    assert (ink[0] <= 0.5).all()
    assert (ink[-1] <= 0.5).all()


@pytest.mark.parametrize("name", DIGITS)
def test_a_drawn_digit_is_the_handwritten_one(name: str) -> None:
    library = Library()
    likeness = []
    for variant in range(8):
        alpha = sprite(Look("digit", name, "red", variant), library).alpha
        coarse = np.asarray(Image.fromarray(alpha).resize((8, 8), Image.Resampling.BOX))
        likeness.append(np.corrcoef(coarse.flat, library.digit(name, variant).flat)[0, 1])
    assert np.mean(likeness) > 0.85
    assert min(likeness) > 0.75


def test_a_photograph_keeps_its_colors(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / "dusk").mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (200, 90, index)).save(tmp_path / "dusk" / f"{index}.png")
    drawn = sprite(Look("sprite", "dusk", "", 4), Library(tmp_path))
    assert drawn.rgb is not None
    assert np.abs(drawn.rgb - (200, 90, 4)).max() <= 1
    assert drawn.alpha[CORE // 2].min() == 1
    assert drawn.alpha[0, 0] == 0  # round corners


def test_the_pointer_points_with_its_top_left_corner() -> None:
    alpha = pointer().alpha
    assert alpha[1:4, :2].max() > 0.5
    assert alpha[:20, 40:].max() == 0


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (Look("shape", "blob", "red"), "unknown shape 'blob'"),
        (Look("sign", "a#", "red", 5), "the blocky font has no '#'"),
        (Look("shape", "ring", "rot"), "unknown color 'rot'"),
        (Look("sign", "A", "bleu"), "unknown color 'bleu'; did you mean 'blue'"),
    ],
)
def test_what_cannot_be_drawn_is_named(look: Look, words: str) -> None:
    with pytest.raises(UserError, match=words):
        sprite(look)


def test_a_stack_stays_within_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [sprite(Look("letter", name, "red")) for name in LETTERS]
    monkeypatch.setattr(atlas, "_ROOM", 4 * drawn[0].outline.nbytes)
    stack = Stack(shelf_of(drawn[0]), torch.device("cpu"))
    for first in range(8):
        wanted = [Wanted(name, drawn[name]) for name in (first, first + 1, first)]
        places = stack.hold(wanted)
        assert places[0] == places[2] != places[1]
        for want, place in zip(wanted, places, strict=True):
            assert (stack.pictures[place, 0].numpy() == want.sprite.outline).all()
        assert len(stack.pictures) <= 4
    assert len(set(stack.hold([Wanted(k, s) for k, s in enumerate(drawn)]))) == len(drawn)
