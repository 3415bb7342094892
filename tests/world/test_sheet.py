"""Contact sheets: what is drawn where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sparsight.measure.pictures import KEPT, WIDTH
from sparsight.world.lettering import contrast, length, wrapped
from sparsight.world.request import Asked
from sparsight.world.scene import (
    COLORS,
    Background,
    Event,
    Look,
    Scene,
    Sound,
    Steps,
    Thing,
    Track,
    always,
    boxes,
    constant,
)
from sparsight.world.sheet import MOST, contact_sheet, drawn, panels_of
from sparsight.world.strip import Bar, lanes_of, place_bars, strip
from sparsight.world.tasks import Question
from sparsight.world.truth import names, percent_boxes, sentence

RING = Thing(
    always(Look("shape", "ring", "red")), 0.3, Track((0.0, 2.0), (0.2, 0.7)), constant(0.3)
)
STAR = Thing(
    Steps((0.0, 2.0), (Look("shape", "star", "blue"), Look("shape", "star", "white"))),
    0.2, constant(0.7), constant(0.75),
)  # fmt: skip
FILM = Scene(
    seed=3, split="test", frames=8, fps=2.0, aspect=1.0, things=(RING, STAR),
    backgrounds=Steps((0.0, 3.0), (Background("texture", 1), Background("texture", 2))),
    events=(
        Event("move", 0, 0.0, 2.0, "right"),
        Event("change", 1, 2.0, 2.0, "white", cause=0),
        Event("blink", 0, 2.5, 3.5, times=3),
    ),
    sounds=(Sound("tone", "high tone", 0.5, 1.5, 0),),
)  # fmt: skip
ASKED = (Question("move", "Which way does the red ring move?", "right", "direction"),)


def near(image: Image.Image, color: tuple[int, int, int], within: int = 30) -> np.ndarray:
    """(H, W) where the image has about this color."""
    away = np.asarray(image.convert("RGB")).astype(int) - np.array(color)
    return np.abs(away).max(-1) <= within


# One frame


def test_each_thing_has_a_line_in_its_color_around_it() -> None:
    panel = panels_of(FILM, None)[0]
    image = drawn(panel, (400, 400))
    for thing, box in zip(FILM.things, boxes(FILM, [0.0])[0], strict=True):
        x0, y0, x1, y1 = (box * 399).round().astype(int)
        line = near(image, COLORS[thing.look.color])
        assert line[y0 + 20 : y1 - 20, x0 - 2].all()
        assert line[y0 + 20 : y1 - 20, x1 + 2].all()
        assert line[y1 + 2, x0 + 20 : x1 - 20].all()


def test_the_line_of_a_hidden_thing_is_dashed() -> None:
    cover = replace(STAR, height=0.6, looks=always(Look("shape", "square", "green")))
    hidden = replace(FILM, things=(replace(STAR, height=0.1), cover))
    panel = panels_of(hidden, None)[0]
    assert panel.seen.tolist() == [False, True]
    image = drawn(panel, (400, 400))
    x0, _, x1, y1 = (boxes(hidden, [0.0])[0, 0] * 399).round().astype(int)
    line = near(image, COLORS["blue"])[y1 + 3, x0:x1]
    assert 0.3 < line.mean() < 0.8


def test_things_outside_the_picture_are_not_drawn() -> None:
    away = replace(FILM, things=(replace(RING, x=constant(-2.0)),), events=(), sounds=())
    panel = panels_of(away, None)[0]
    plain = Image.fromarray(panel.picture).resize((400, 400), Image.Resampling.LANCZOS)
    assert (np.asarray(drawn(panel, (400, 400))) == np.asarray(plain)).all()


def test_labels_follow_the_looks() -> None:
    first, *_, last = panels_of(FILM, None)
    assert first.labels == ("red ring", "blue star")
    assert last.labels == ("red ring", "white star")


def test_a_long_film_is_drawn_by_evenly_spread_frames() -> None:
    long = replace(FILM, frames=600, events=())
    times = [panel.time for panel in panels_of(long, None)]
    assert len(times) == MOST
    assert (times[0], times[-1]) == (0.0, 599 / 2)
    assert np.diff(times) == pytest.approx(599 / 2 / (MOST - 1), abs=0.51)


def test_a_needle_is_among_the_frames_drawn() -> None:
    for frame in (17, 300, 599):
        needle = Event("appear", 1, frame / 2, (frame + 1) / 2)
        film = replace(FILM, frames=600, events=(*FILM.events, needle))
        times = [panel.time for panel in panels_of(film, None)]
        assert frame / 2 in times
        assert len(times) == MOST


# The strip


def test_bars_and_their_words_touch_no_others() -> None:
    rng = np.random.default_rng(0)
    bars = []
    for place in range(40):
        start = float(rng.uniform(0, 9.9))
        end = float(rng.uniform(start, 10))
        bars.append(Bar(start, end, "word " * int(rng.integers(1, 20)) + str(place), (0, 0, 0)))
    placed = place_bars(bars, 10.0, 1000)
    assert {item.bar for item in placed} == set(bars)
    for a in placed:
        assert min(a.left, a.words_at) >= 0
        assert max(a.right, a.words_at + a.words_wide) <= 1000
        assert a.inside or a.words_at >= a.right or a.words_at + a.words_wide <= a.left
        for b in placed:
            if a is not b and a.row == b.row:
                begin, end = min(a.left, a.words_at), max(a.right, a.words_at + a.words_wide)
                assert end <= min(b.left, b.words_at) or begin >= max(
                    b.right, b.words_at + b.words_wide
                )


def test_an_effect_names_its_cause() -> None:
    ((_, events), *_) = lanes_of(FILM)
    assert events[1].words == "blue star changes to white, because of the red ring"


def test_a_bar_lies_at_its_seconds() -> None:
    (item,) = place_bars([Bar(2.0, 5.0, "moves", (0, 0, 0))], 10.0, 1000)
    assert (item.left, item.right) == (200, 500)


def test_every_drawn_frame_is_marked_on_the_axis() -> None:
    marked = near(strip(FILM, [0.0, 1.0, 3.5], 1000), KEPT, within=5)
    base = np.flatnonzero(marked.any(1)).max()  # the foot of the triangles
    feet = np.flatnonzero(np.diff(marked[base].astype(int)) == 1)
    assert len(feet) + marked[base, 0] == 3


def test_a_scene_without_events_has_an_axis_alone() -> None:
    bare = replace(FILM, events=(), sounds=(), backgrounds=always(Background("texture", 1)))
    assert strip(bare, [0.0], 1000).height < 60 < strip(FILM, [0.0], 1000).height


# The sheet


@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize("aspect", [0.25, 1.0, 4.0])
def test_sheets_of_any_shape_are_one_page_wide(frames: int, aspect: float) -> None:
    scene = replace(FILM, frames=frames, aspect=aspect)
    page = contact_sheet([Asked(scene, ASKED)])
    assert page.width == WIDTH
    assert 250 < page.height < 4000


def test_answers_are_on_the_sheet() -> None:
    """The answer is written in a color that nothing else of a sheet without words has."""
    picture = replace(FILM, frames=1, things=())
    without, with_answer = (
        int(near(contact_sheet([Asked(picture, asked)]), KEPT, within=20).sum())
        for asked in ((), ASKED)
    )
    assert with_answer > without + 50


def test_films_stand_below_each_other_and_pictures_in_pairs() -> None:
    film, picture = Asked(FILM, ASKED), Asked(replace(FILM, frames=1), ASKED)
    assert contact_sheet([film] * 2).height > 1.9 * contact_sheet([film]).height
    assert contact_sheet([picture] * 4).height < 1.2 * contact_sheet([picture]).height


# Words


def test_things_that_look_alike_are_numbered() -> None:
    assert names(replace(FILM, things=(RING, STAR, RING))) == [
        "red ring 1",
        "blue star",
        "red ring 2",
    ]


def test_events_are_told_in_words() -> None:
    assert [sentence(FILM, event) for event in FILM.events] == [
        "red ring moves right",
        "blue star changes to white",
        "red ring blinks 3 times",
    ]
    assert sentence(FILM, Event("swap", 0, 0.0, 1.0, other=1)) == (
        "red ring swaps places with the blue star"
    )


def test_boxes_in_percent_are_cut_off_at_the_edges() -> None:
    half_out = replace(FILM, things=(replace(RING, x=constant(0.0)),), events=(), frames=1)
    gone = replace(FILM, things=(replace(RING, shown=((1.0, 2.0),)),), events=(), frames=1)
    outside = replace(FILM, things=(replace(RING, x=constant(3.0)),), events=(), frames=1)
    assert percent_boxes(half_out) == [[[0.0, 15.0, 15.0, 45.0]]]
    assert percent_boxes(gone) == percent_boxes(outside) == [[None]]


def test_wrapped_lines_fit_and_keep_every_word() -> None:
    text = "The film lasts 8.0 seconds. Which happens first: A. the ring moves B. the star spins"
    lines = wrapped(text, 24, 300)
    assert " ".join(lines) == text
    assert all(length(line, 24) <= 300 for line in lines)


def test_words_on_a_color_are_black_or_white_for_contrast() -> None:
    assert contrast(COLORS["yellow"]) == contrast(COLORS["white"]) == (0, 0, 0)
    assert contrast(COLORS["blue"]) == contrast(COLORS["black"]) == (255, 255, 255)
