"""What each task is promised of its scenes, read off them at the instants of their frames."""

from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest

from sparsight.world.sampler import sample_scene
from sparsight.world.scene import COLORS, DIRECTIONS, TEXT_SIZES, Event, Scene, boxes
from sparsight.world.splits import held_out_look
from sparsight.world.sprites import SIGN_LETTERS
from sparsight.world.stories import STORIES


@cache
def scenes(
    task: str, count: int = 60, split: str = "train", frames: int | None = None
) -> tuple[Scene, ...]:
    frames = frames or (STORIES[task].frames if STORIES[task].frames == 1 else 8)
    return tuple(sample_scene(seed, split, task, frames=frames) for seed in range(count))


def even(values: Iterable[object], over: Iterable[object]) -> bool:
    """Whether each of `over` is drawn about as often, and nothing else: within 4.5 sigma."""
    counts, names = Counter(values), list(over)
    total = sum(counts.values())
    mean = total / len(names)
    return set(counts) <= set(names) and all(
        abs(counts[name] - mean) < 4.5 * np.sqrt(mean) for name in names
    )


@pytest.mark.parametrize("task", ["color", "shape"])
@pytest.mark.parametrize("split", ["train", "combos"])
def test_nouns_and_colors_tell_things_apart(task: str, split: str):
    for scene in scenes(task, 60, split):
        for part in ("name", "color"):
            values = [getattr(thing.look, part) for thing in scene.things]
            assert len(set(values)) == len(values)


def test_the_color_is_even_for_every_shape():
    for shape in ("ring", "star"):
        drawn = [
            thing.look.color
            for scene in scenes("color", 600)
            for thing in scene.things
            if thing.look.name == shape
        ]
        assert even(drawn, [color for color in COLORS if not held_out_look(shape, color)])


def test_numbers_of_things_and_of_things_alike_are_even():
    totals, groups = [], []
    for scene in scenes("count", 600):
        looks = [thing.look for thing in scene.things]
        most = max(Counter(part for look in looks for part in (look.name, look.color)).values())
        if most > 1:
            groups.append(most)
        else:
            totals.append(len(looks))
    assert even(totals, range(1, 7))
    assert even(groups, range(2, 6))


def test_one_thing_lies_clearly_on_one_side_each_as_often():
    sides = []
    for scene in scenes("where", 300):
        middles = boxes(scene, [0.0])[0].reshape(-1, 2, 2).mean(1) - 0.5
        clear = [m for m in middles if abs(abs(m[0]) - abs(m[1])) > 0.1 and np.abs(m).max() > 0.18]
        assert clear
        for x, y in clear:
            sides.append(("x" if abs(x) > abs(y) else "y", bool(max(x, y, key=abs) > 0)))
    assert even(sides, [(axis, end) for axis in "xy" for end in (False, True)])


def test_letters_of_signs_are_of_every_size_as_often():
    sizes = []
    for scene in scenes("read", 300):
        signs = [thing for thing in scene.things if thing.look.kind == "sign"]
        assert signs
        assert len({thing.look.color for thing in signs}) == len(signs)
        for thing in signs:
            tall = thing.height * SIGN_LETTERS
            (size,) = (name for name, (a, b) in TEXT_SIZES.items() if a - 1e-9 < tall < b + 1e-9)
            sizes.append(size)
    assert even(sizes, TEXT_SIZES)


@pytest.mark.parametrize("frames", [2, 8, 64])
def test_what_moves_is_seen_to_move_in_its_direction(frames: int):
    drawn = []
    for scene in scenes("move", 200, "train", frames):
        for event in scene.events:
            assert event.action == "move"
            thing = scene.things[event.thing]
            at = np.array([event.start, event.end])
            way = np.array([np.diff(thing.x.at(at))[0], np.diff(thing.y.at(at))[0]])
            assert np.hypot(*way) > 0.2
            assert tuple(np.sign(np.round(way, 3))) == DIRECTIONS[event.detail]
            drawn.append(event.detail)
        assert scene.events
    assert even(drawn, DIRECTIONS)


def test_things_act_one_after_the_other():
    for scene in scenes("order"):
        assert len(scene.events) >= 2
        assert len({event.thing for event in scene.events}) == len(scene.events)
        for a, b in zip(scene.events, scene.events[1:], strict=False):
            assert b.start >= a.end
            assert b.start - a.start >= 1 / scene.fps


def seen_repeats(scene: Scene, event: Event) -> int:
    """How often the frames show the action: runs hidden, high up or large; turns begun."""
    thing, times = scene.things[event.thing], scene.times
    if event.action == "spin":
        return round((thing.angle.at(times)[-1] - thing.angle.at(times)[0]) / 360)
    if event.action == "blink":
        out = ~thing.visible(times)
    elif event.action == "bounce":
        y = thing.y.at(times)
        out = y < y[0] - 0.1
    else:
        size = thing.scale.at(times)
        out = size > 1.35
    return int((np.diff(np.concatenate([[False], out]).astype(int)) == 1).sum())


@pytest.mark.parametrize(("frames", "most"), [(4, 1), (8, 3), (64, 6)])
def test_the_frames_show_every_repetition_and_all_numbers_are_even(frames: int, most: int):
    found = []
    for scene in scenes("repeat", 300, "train", frames):
        (event,) = (e for e in scene.events if e.action != "move")
        assert seen_repeats(scene, event) == event.times
        found.append((event.action, event.times))
    for action in {action for action, _ in found}:
        assert even((n for name, n in found if name == action), range(1, most + 1))
    assert ("spin" in {action for action, _ in found}) == (frames == 64)


@pytest.mark.parametrize("frames", [8, 64])
def test_the_stretch_of_a_deed_says_nothing_of_the_deed(frames: int):
    spans: dict[str, list[tuple[float, float]]] = {}
    for scene in scenes("when", 400, "train", frames):
        event = scene.events[0]
        spans.setdefault(event.action, []).append((event.start, event.end - event.start))
    means = np.array([np.mean(span, axis=0) for name, span in spans.items()])
    assert set(spans) == {"move", "bounce", "spin", "grow", "shrink", "blink"}
    assert np.ptp(means, axis=0).max() < 0.3 * frames / 2


def test_one_character_is_shown_in_one_frame_only_any_as_often():
    places, kinds = [], []
    for scene in scenes("needle", 300, "train", 16):
        (event,) = scene.events
        thing = scene.things[event.thing]
        (place,) = np.flatnonzero(thing.visible(scene.times))
        assert scene.times[place] == event.start
        assert thing.height > 0.25
        assert thing is scene.things[-1]  # nothing hides it
        others = [other.look for other in scene.things if other is not thing]
        assert all(other.kind == "shape" for other in others)
        places.append(int(place))
        kinds.append(thing.look.kind)
    assert even(places, range(16))
    assert even(kinds, ["letter", "digit"])


@pytest.mark.parametrize(("frames", "most"), [(2, 1), (8, 3), (64, 3)])
def test_a_thing_changes_and_each_state_is_new_and_lasts(frames: int, most: int):
    numbers = []
    for scene in scenes("state", 200, "train", frames):
        (changing,) = (thing for thing in scene.things if len(thing.looks.values) > 1)
        states = [(look.name, look.color) for look in changing.looks.values]
        shown = Counter(changing.looks.index(scene.times).tolist())
        assert len(set(states)) == len(states) == len(shown)
        assert min(shown.values()) >= min(2, frames // 2)
        assert [e.detail in state for e, state in zip(scene.events, states[1:], strict=True)]
        numbers.append(len(states) - 1)
    assert even(numbers, range(1, most + 1))


def test_a_touch_comes_before_its_effect_and_nothing_else_touches():
    effects = []
    for scene in scenes("cause", 200):
        (event,) = (e for e in scene.events if e.cause is not None)
        cause = scene.events[event.cause or 0]
        first = next(e for e in scene.events if e.other == event.thing)
        toucher = scene.things[first.thing]
        touched = scene.things[event.thing]
        assert cause.start <= event.start == first.end

        def gap(time: float, a=toucher, b=touched) -> float:
            at = np.array([time])
            x = abs(a.x.at(at) - b.x.at(at)) - (a.height * a.look.aspect + b.height) / 2
            y = abs(a.y.at(at) - b.y.at(at)) - (a.height + b.height) / 2
            return float(max(x[0], y[0]))

        assert gap(first.end) < 1e-6 < 0.15 < gap(first.start)
        effects.append(event.action)
    assert set(effects) == {"move", "spin", "grow", "shrink", "blink", "change"}


def test_sounds_differ_and_last_as_long_as_what_they_belong_to():
    for scene in scenes("sound"):
        assert len({sound.name for sound in scene.sounds}) == len(scene.sounds) >= 2
        for sound in scene.sounds:
            (event,) = (e for e in scene.events if e.thing == sound.thing)
            assert (sound.start, sound.end) == (event.start, event.end)
        a, b = sorted(scene.sounds, key=lambda sound: sound.start)
        assert a.end <= b.start


def test_the_cursor_is_at_the_thing_that_is_named():
    for scene in scenes("narrate"):
        assert scene.cursor is not None
        assert len(scene.narration) >= 2
        for said in scene.narration:
            assert said.thing is not None
            thing = scene.things[said.thing]
            assert said.text == f"the {thing.look.phrase}"
            at = scene.times[(scene.times >= said.start) & (scene.times < said.end)]
            assert at.size
            x, y = (track.at(at) for track in scene.cursor)
            near = np.maximum(abs(x - thing.x.at(at)), abs(y - thing.y.at(at)))
            assert (near[:1] < 0.5 * thing.height * max(1, thing.look.aspect)).all()


@pytest.mark.parametrize("task", ["caption", "summary"])
def test_stretches_of_one_thing_do_not_overlap(task: str):
    for scene in scenes(task, 60, "train", 16):
        assert scene.events
        for a, b in zip(scene.events, scene.events[1:], strict=False):
            assert b.start >= a.end
