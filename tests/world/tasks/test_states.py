"""State at a time, cause, sound and the pointer."""

from dataclasses import replace

import numpy as np
import pytest

from sparsight.world.scene import Camera, Event, Look, Narration, Scene, Sound, Steps, Track
from sparsight.world.tasks import ask
from tests.world.tasks.building import answers, asked, facts, film, sign, thing

# State

CHANGER = thing(("red ring", "blue ring", "white ring"), changes=(1.5, 3.0))


def test_the_color_at_a_time_is_that_of_the_frame():
    scene = film(CHANGER, frames=9)
    colors = {0.0: "red", 0.5: "red", 1.0: "red", 2.0: "blue", 2.5: "blue", 3.5: "white"}
    found = asked("state", scene)
    assert set(found.values()) == {"red", "blue", "white"}
    for words, color in found.items():
        name, time = words.split("/")
        assert name == "ring"
        assert colors.get(float(time), "white") == color


def test_the_first_frame_of_a_state_is_not_asked_about():
    times = {words.split("/")[1] for words in asked("state", film(CHANGER, frames=9))}
    assert not {"1.5", "3.0"} & times


def test_times_that_one_decimal_cannot_tell_are_not_asked_about():
    scene = film(thing(("red ring", "blue ring"), changes=(0.5,)), frames=64, fps=64.0)
    for words, color in asked("state", scene).items():
        assert (float(words.split("/")[1]) > 0.5) == (color == "blue")
    blurred = film(thing(("red ring", "blue ring"), changes=(0.25,)), frames=3, fps=8.0)
    assert len(answers("state", blurred)) != 1


def test_letters_and_texts_that_change_are_read_at_a_time():
    letter = film(thing(("red letter K", "red letter M"), changes=(2.0,)))
    assert answers("state", letter, "letter") == {"K", "M"}
    plate = sign("KA")
    two = Steps((0.0, 2.0), (plate.look, Look("sign", "MX", "red", aspect=1.5)))
    assert answers("state", film(replace(plate, looks=two)), "sign") == {"KA", "MX"}


def test_the_side_on_which_a_moving_thing_is_depends_on_the_time():
    scene = film(thing(at=(0.1, 0.5), to=(0.9, 0.5)), events=(Event("move", 0, 0, 3.0, "right"),))
    found = asked("state", scene)
    assert set(found.values()) == {"left", "right"}
    for words, side in found.items():
        assert (float(words.split("/")[1]) > 1.5) == (side == "right")
    panned = replace(scene, camera=Camera(x=Track((0.0, 3.0), (0.0, 0.1))))
    assert not facts("state", panned)


def test_what_never_changes_has_no_state_to_ask_for():
    assert not facts("state", film(thing()))
    assert not facts("state", film(thing(("red ring", "blue ring"), changes=(30.0,))))


# Cause

TOUCH = Event("move", 0, 0.5, 2.0, "right", other=1)


def touching(*more, effect: str = "spin", second=None, cause: int | None = 0, **other) -> Scene:
    first = thing("red ring", (0.2, 0.5), to=(0.5, 0.5), when=(0.5, 2.0))
    second = second or thing("blue star", (0.7, 0.5), angle=Track((2.0, 3.5), (0.0, 150.0)))
    events = (TOUCH, Event(effect, 1, 2.0, 3.5, cause=cause))
    return film(first, second, *more, events=events, **other)


def test_what_follows_from_a_touch_is_its_effect():
    assert answers("cause", touching()) == {"it spins"}
    grower = thing("blue star", (0.7, 0.5), scale=Track((2.0, 3.5), (1.0, 1.6)))
    assert answers("cause", touching(effect="grow", second=grower)) == {"it grows"}


def test_who_made_it_so_is_asked_where_another_might_have():
    scene = touching(thing("green cross", (0.1, 0.1)))
    assert answers("cause", scene, "why") == {"red ring"}
    assert not answers("cause", touching(), "why")
    close = touching(thing("green cross", (0.7, 0.68), 0.15))
    assert answers("cause", close, "effect")
    assert not answers("cause", close, "why")


def test_what_only_comes_later_is_no_effect():
    assert not facts("cause", touching(cause=None))


def test_things_that_do_not_touch_cause_nothing():
    far = thing("blue star", (0.85, 0.5), 0.1, angle=Track((2.0, 3.5), (0.0, 150.0)))
    assert not facts("cause", touching(second=far))


def test_picking_up_is_an_effect():
    first = replace(thing("red ring", (0.2, 0.5)), x=Track((0.5, 2.0, 3.5), (0.2, 0.5, 0.5)),
                    y=Track((2.0, 3.5), (0.5, 0.2)))  # fmt: skip
    second = thing("blue star", (0.7, 0.5), to=(0.7, 0.2), when=(2.0, 3.5))
    lift = Event("pick up", 0, 2.0, 3.5, "up", other=1)
    events = (TOUCH, lift, Event("move", 1, 2.0, 3.5, "up", cause=1))
    assert answers("cause", film(first, second, events=events)) == {"it is picked up"}


# Sound

MOVED = Event("move", 0, 0.5, 1.5, "right")
SPUN = Event("spin", 1, 2.0, 3.5)
DOERS = (
    thing("red ring", (0.2, 0.2), to=(0.6, 0.2), when=(0.5, 1.5)),
    thing("blue star", (0.7, 0.8), angle=Track((2.0, 3.5), (0.0, 150.0))),
)
HIGH, SEVEN = Sound("tone", "high tone", 0.5, 1.5, 0), Sound("digit", "seven", 2.0, 3.5, 1)


def test_sounds_are_known_by_what_happened_meanwhile():
    scene = film(*DOERS, events=(MOVED, SPUN), sounds=(HIGH, SEVEN))
    assert answers("sound", scene, "tone") == {"high tone"}
    assert answers("sound", scene, "digit") == {"seven"}
    source = asked("sound", scene, "source")
    assert source == {"the high tone": "red ring", 'the word "seven"': "blue star"}


@pytest.mark.parametrize(
    "sounds",
    [
        (HIGH, Sound("tone", "low tone", 1.0, 2.0, 1)),
        (replace(HIGH, end=0.7),),
        (replace(HIGH, thing=1),),
        (),
    ],
    ids=["two at once", "hardly any", "of another", "silence"],
)
def test_a_sound_that_might_be_another_is_not_asked_for(sounds: tuple[Sound, ...]):
    assert not answers("sound", film(*DOERS, events=(MOVED, SPUN), sounds=sounds), "tone")


# Pointer

POINTER = (Track((0.0, 3.5), (0.2, 0.7)), Track((0.0, 3.5), (0.2, 0.8)))
RING, STAR = thing("red ring", (0.2, 0.2)), thing("blue star", (0.7, 0.8))
SAID = (Narration("the red ring", 0.5, 1.5, 0), Narration("the blue star", 2.0, 3.5, 1))


def test_the_pointer_shows_one_thing_after_the_other():
    scene = film(RING, STAR, cursor=POINTER, narration=SAID)
    assert answers("narrate", scene, "first") == {"red ring"}
    assert answers("narrate", scene, "last") == {"blue star"}
    for time, name in asked("narrate", scene, "then").items():
        assert name == ("red ring" if float(time) < 1.5 else "blue star")


def test_without_a_pointer_or_with_one_thing_there_is_nothing_to_ask():
    assert not facts("narrate", film(RING, STAR, narration=SAID))
    assert not facts("narrate", film(RING, STAR, cursor=POINTER, narration=SAID[:1]))
    twin = thing("red ring", (0.7, 0.8))
    assert not facts("narrate", film(RING, twin, cursor=POINTER, narration=SAID))


def test_options_of_the_pointer_are_things():
    scene = film(RING, STAR, cursor=POINTER, narration=SAID)
    for seed in range(10):
        found = ask("narrate", scene, np.random.default_rng(seed), "choice")
        assert found is not None
        assert len(set(found.choices)) == 4
