"""When things happen: intervals, summaries, captions, needles."""

from dataclasses import replace

import numpy as np
import pytest

from sparsight.world.scene import Background, Camera, Event, Scene, Steps, Track
from sparsight.world.tasks import ask, right, score
from tests.world.tasks.building import answers, asked, facts, film, thing

MOVED = Event("move", 0, 0.5, 2.0, "right")
RING = thing("red ring", (0.3, 0.3), to=(0.7, 0.3), when=(0.5, 2.0))
STAR = thing("blue star", (0.7, 0.8), 0.15)
PAN = Camera(x=Track((0.0, 3.5), (0.0, 0.05)))


def question(task: str, scene: Scene, form=None):
    found = ask(task, scene, np.random.default_rng(0), form)
    assert found is not None
    return found


# When


def test_when_is_told_in_seconds_of_a_film_of_known_length():
    asked_for = question("when", film(RING, STAR, events=(MOVED,)))
    assert asked_for.text.startswith("The film lasts 4.0 seconds. ")
    assert asked_for.answer == "0.5 to 2.0"


@pytest.mark.parametrize(
    "scene",
    [
        film(RING, events=(MOVED,), camera=PAN),
        film(RING, events=(MOVED, Event("move", 0, 3.0, 3.5, "left"))),
        film(RING, events=(MOVED, Event("stop", 0, 2.0, 2.0))),
        film(thing("red ring", (0.3, 0.3), to=(0.7, 0.3), when=(0.5, 1.0)),
             events=(replace(MOVED, end=1.0),)),
        film(RING, events=(MOVED,), fps=0.51),
        film(thing("red ring", (0.3, 0.3), to=(0.7, 0.3), when=(0.02, 0.06)), fps=50.0,
             events=(replace(MOVED, start=0.02, end=0.06),)),
    ],
    ids=["camera", "twice", "stops", "too short", "between frames", "too fast for one decimal"],
)  # fmt: skip
def test_a_time_that_cannot_be_told_is_not_asked_for(scene: Scene):
    assert not facts("when", scene)


def test_growing_and_going_back_is_not_growing():
    pulse = thing(scale=Track((0.5, 1.5, 2.5), (1.0, 1.8, 1.0)))
    grown = thing(scale=Track((0.5, 2.5), (1.0, 1.8)))
    event = Event("grow", 0, 0.5, 2.5)
    for task in ("when", "caption"):
        assert not facts(task, film(pulse, events=(event,)))
        assert facts(task, film(grown, events=(event,)))


def test_options_of_when_do_not_overlap():
    found = question("when", film(RING, frames=32, events=(MOVED,)), "choice")
    assert len(found.choices) == 4
    plain = question("when", film(RING, frames=32, events=(MOVED,)))
    assert sum(right(plain, option) for option in found.choices) == 1


# Summary

BUSY = (MOVED, Event("spin", 0, 4.0, 5.5))
SPINNER = thing(
    "red star", (0.3, 0.3), to=(0.7, 0.3), when=(0.5, 2.0), angle=Track((4.0, 5.5), (0.0, 120.0))
)


def test_a_summary_names_every_stretch():
    assert answers("summary", film(SPINNER, frames=16, events=BUSY)) == {"0.5 to 2.0, 4.0 to 5.5"}


def test_stretches_that_touch_are_one():
    spinner = replace(SPINNER, angle=Track((2.0, 3.5), (0.0, 120.0)))
    events = (MOVED, Event("spin", 0, 2.0, 3.5))
    assert answers("summary", film(spinner, frames=16, events=events)) == {"0.5 to 3.5"}


def test_a_thing_with_doings_that_are_not_seen_has_no_summary():
    assert not facts("summary", film(SPINNER, frames=10, events=BUSY))
    assert not facts("summary", film(SPINNER, frames=16, events=BUSY, camera=PAN))
    changed = (*BUSY, Event("change", 0, 7.0, 7.0, "white"))
    assert not facts("summary", film(SPINNER, frames=16, events=changed))


# Caption

CHANGER = thing(("blue star", "white star"), (0.7, 0.8), 0.15, changes=(2.5,))
CHANGED = Event("change", 1, 2.5, 2.5, "white")


def test_a_caption_tells_all_events_in_order_with_their_times():
    told = "0.5 to 2.0: the red ring moves right; 2.5: the star changes to white"
    found = question("caption", film(RING, CHANGER, events=(CHANGED, MOVED)))
    assert found.answer == told
    assert score(found, told) == 1


def test_an_instant_may_be_a_frame_off():
    found = question("caption", film(RING, CHANGER, events=(MOVED, CHANGED)))
    for told, hit in (("2.0", True), ("3.0", True), ("3.5", False)):
        reply = f"{told}: the star changes to white; 0.5 to 2.0: the red ring moves right"
        assert (score(found, reply) == 1) == hit


@pytest.mark.parametrize(
    "scene",
    [
        film(RING, CHANGER, events=(MOVED,)),
        film(RING, thing("blue star", (0.7, 0.8), shown=((2.0, 9.0),)), events=(MOVED,)),
        film(RING, thing("red ring", (0.3, 0.8)), events=(MOVED,)),
        film(RING, events=(MOVED, Event("move", 0, 3.0, 9.0, "left"))),
        film(RING, events=(MOVED,), backgrounds=Steps(
            (0.0, 2.0), (Background("texture", 1), Background("texture", 2)))),
        film(RING),
    ],
    ids=["untold change", "untold arrival", "no name", "unseen end", "cut", "nothing happens"],
)  # fmt: skip
def test_a_film_that_cannot_be_told_whole_has_no_caption(scene: Scene):
    assert not facts("caption", scene)


# Needle


def needle(frames: int = 16, at: float = 3.0, **other) -> Scene:
    odd = thing("red letter K", height=0.4, shown=((at, at + 0.5),))
    return film(thing("blue star", (0.15, 0.15)), odd, frames=frames, **other)


def test_the_needle_is_the_letter_of_one_frame():
    assert asked("needle", needle()) == {"letter": "K"}
    assert asked("needle", needle(frames=4096, at=1000.0)) == {"letter": "K"}


def test_two_needles_or_none_are_not_asked_for():
    twice = thing("red letter K", height=0.4, shown=((1.0, 1.5), (3.0, 3.5)))
    assert not facts("needle", film(twice))
    second = thing("white digit 7", height=0.3, shown=((1.0, 1.5),))
    scene = needle()
    assert not facts("needle", replace(scene, things=(*scene.things, second)))
    assert not facts("needle", film(thing("blue star")))


def test_a_needle_among_things_that_come_and_go_is_none():
    scene = needle()
    guest = thing("green cross", (0.8, 0.8), shown=((0.0, 5.0),))
    assert not facts("needle", replace(scene, things=(*scene.things, guest)))


def test_a_needle_behind_others_is_not_asked_for():
    odd = thing("red letter K", height=0.2, shown=((1.0, 1.5),))
    assert not facts("needle", film(odd, thing("blue square", height=0.4)))
