"""Directions, order and repetition, judged on the frames."""

from dataclasses import replace

import pytest

from sparsight.world.scene import DIRECTIONS, Background, Camera, Event, Scene, Steps, Track
from tests.world.tasks.building import answers, asked, facts, film, thing

GO = Event("move", 0, 0.0, 3.0, "right")
RING = thing("red ring", (0.3, 0.3), to=(0.7, 0.3))
STAR = thing("blue star", (0.7, 0.8), 0.15)


# Direction


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_of_eight_directions_is_told(direction: str):
    x, y = DIRECTIONS[direction]
    moving = thing(at=(0.5, 0.5), to=(0.5 + 0.2 * x, 0.5 + 0.2 * y))
    scene = film(moving, events=(replace(GO, detail=direction),))
    assert answers("move", scene) == {direction}


def test_things_at_rest_do_not_move():
    assert asked("move", film(RING, STAR, events=(GO,))) == {"red ring": "right", "ring": "right"}


def test_pictures_carry_no_question_about_motion():
    scene = film(RING, frames=1, events=(GO,))
    for task in ("move", "order", "repeat", "when", "state", "needle", "caption"):
        assert not facts(task, scene), task


@pytest.mark.parametrize(
    "scene",
    [
        film(RING, events=(replace(GO, detail="up-right"),)),
        film(thing(at=(0.5, 0.5), to=(0.55, 0.5)), events=(GO,)),
        film(RING, events=(GO, Event("bounce", 0, 3.0, 3.5))),
        film(thing(at=(0.7, 0.5), to=(1.2, 0.5)), events=(GO,)),
        film(RING, thing("blue star", (0.5, 0.3)), events=(GO,)),
        film(RING, events=(replace(GO, end=9.0),)),
        film(RING, events=(GO,), camera=Camera(x=Track((0.0, 3.5), (0.0, 0.5)))),
    ],
    ids=["elsewhere", "hardly", "and bounces", "out of view", "covered", "too long", "camera"],
)
def test_a_motion_that_might_be_taken_for_another_is_not_asked_about(scene: Scene):
    assert not facts("move", scene)


# Order

BLINK = Event("blink", 1, 2.0, 3.0)
BLINKER = thing("blue star", (0.7, 0.8), 0.15, shown=((0.0, 2.0), (3.0, 99.0)))
MOVER = thing("red ring", (0.3, 0.3), to=(0.7, 0.3), when=(0.5, 1.5))
MOVED = Event("move", 0, 0.5, 1.5, "right")


def test_the_first_of_two_is_the_one_that_is_over_before_the_other_begins():
    scene = film(MOVER, BLINKER, events=(MOVED, BLINK))
    assert answers("order", scene) == {"red ring", "red ring moves"}


def test_the_first_is_named_first_as_often_as_second():
    rows = [
        fact
        for seed in range(60)
        for fact in facts("order", film(MOVER, BLINKER, events=(MOVED, BLINK)), seed)
    ]
    first = sum(fact.fill["a"] == f"the {fact.answer}" for fact in rows)
    assert 0.25 < first / len(rows) < 0.75
    assert all(fact.answer in fact.choices for fact in rows)


def test_what_overlaps_has_no_order():
    late = thing("red ring", (0.3, 0.3), to=(0.7, 0.3), when=(1.0, 2.5))
    scene = film(late, BLINKER, events=(replace(MOVED, start=1.0, end=2.5), BLINK))
    assert not facts("order", scene)


def test_three_things_that_act_one_after_the_other_have_an_order():
    third = thing(("green cross", "white cross"), (0.2, 0.8), 0.15, changes=(3.5,))
    events = (MOVED, BLINK, Event("change", 2, 3.5, 3.5, "white"))
    scene = film(MOVER, BLINKER, third, events=events, frames=9)
    assert answers("order", scene, "three") == {"red ring, blue star, cross"}
    fact = facts("order", scene)[-1]
    assert len(set(fact.choices)) == 6


def test_what_follows_from_the_other_or_can_only_be_last_is_not_asked():
    caused = (MOVED, replace(BLINK, cause=0))
    assert not facts("order", film(MOVER, BLINKER, events=caused))
    gone = thing("red ring", (0.3, 0.3), to=(1.2, 0.3), when=(0.5, 3.0))
    alone = (Event("move", 0, 0.5, 1.0, "right"), Event("leave", 0, 1.5, 3.0, "right"))
    assert not facts("order", film(gone, events=alone))


def test_what_has_no_name_of_its_own_has_no_order():
    twin = replace(BLINKER, looks=MOVER.looks)
    assert not facts("order", film(MOVER, twin, events=(MOVED, BLINK)))


# Repetition


def bouncer(times: int, period: float = 1.0) -> Scene:
    """A ring that hops so many times, `period` seconds each."""
    half = [0.5 + place * period / 2 for place in range(2 * times + 1)]
    track = Track(tuple(half), (0.5, *(0.3, 0.5) * times))
    event = Event("bounce", 0, 0.5, 0.5 + times * period, times=times)
    return film(thing(y=track), frames=16, events=(event,))


@pytest.mark.parametrize("times", range(1, 7))
def test_repetitions_are_counted(times: int):
    assert asked("repeat", bouncer(times)) == {
        "red ring/bounce": str(times), "ring/bounce": str(times)
    }  # fmt: skip


def test_repetitions_that_no_frame_shows_are_not_counted():
    assert not facts("repeat", bouncer(3, period=0.5))


def test_blinks_are_counted_by_the_frames_without_the_thing():
    gone = thing(shown=((0.0, 1.0), (1.5, 2.0), (2.5, 99.0)))
    event = Event("blink", 0, 1.0, 2.5, times=2)
    assert answers("repeat", film(gone, events=(event,))) == {"2"}
    assert not facts("repeat", film(gone, events=(replace(event, times=3),)))


def test_answers_range_over_what_so_many_frames_can_show():
    assert facts("repeat", bouncer(2))[0].choices == ("1", "2", "3", "4", "5", "6")
    assert facts("repeat", replace(bouncer(2), frames=8))[0].choices == ("1", "2", "3")
    assert not facts("repeat", replace(bouncer(1), frames=5))


@pytest.mark.parametrize(("turns", "degrees", "counted"), [(2, 720, True), (2, 500, False)])
def test_only_full_and_slow_turns_are_counted(turns: int, degrees: float, counted: bool):
    spinning = thing("red letter K", angle=Track((0.5, 5.5), (0.0, degrees)))
    scene = film(spinning, frames=16, events=(Event("spin", 0, 0.5, 5.5, times=turns),))
    assert answers("repeat", scene) == ({"2"} if counted else set())
    fast = thing("red letter K", angle=Track((0.5, 1.5), (0.0, degrees)))
    assert not facts("repeat", film(fast, frames=16, events=(Event("spin", 0, 0.5, 1.5, times=2),)))


def test_a_cut_does_not_hide_a_motion():
    cut = Steps((0.0, 2.0), (Background("texture", 1), Background("texture", 2)))
    assert answers("move", film(RING, events=(GO,), backgrounds=cut)) == {"right"}
