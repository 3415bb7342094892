"""Scenes by seed: their streams, what holds for every scene, and numbers out of range."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from sparsight.core.errors import UserError
from sparsight.world.sampler import LONGEST, sample_scene
from sparsight.world.scene import Scene, boxes
from sparsight.world.splits import SPLITS, actor, held_out_action, held_out_look
from sparsight.world.stories import STORIES

PICTURES = tuple(task for task, story in STORIES.items() if story.frames == 1)
FILMS = tuple(task for task in STORIES if task not in PICTURES)
EVERY = (None, *STORIES)


@cache
def scenes(
    task: str | None, count: int = 60, split: str = "train", frames: int | None = None
) -> tuple[Scene, ...]:
    frames = frames or (1 if task in PICTURES else 8)
    return tuple(sample_scene(seed, split, task, frames=frames) for seed in range(count))


def comes_or_goes(scene: Scene) -> set[int]:
    return {e.thing for e in scene.events if e.action in ("appear", "leave") and e.detail}


def overlap(scene: Scene, i: int, j: int) -> float:
    """The largest share of the smaller one of two things that both boxes cover in a frame."""
    found = boxes(scene, scene.times)[:, [i, j]]
    low, high = found[:, :, :2].max(1), found[:, :, 2:].min(1)
    areas = np.prod(found[:, :, 2:] - found[:, :, :2], -1)
    share = np.prod(np.clip(high - low, 0, None), -1) / areas.min(1)
    return float(np.nan_to_num(share).max())


# The stream


@pytest.mark.parametrize("task", EVERY)
def test_the_same_seed_gives_the_same_scene(task: str | None):
    frames = 1 if task in PICTURES else 8
    assert scenes(task, 5) == tuple(
        sample_scene(seed, "train", task, frames=frames) for seed in range(5)
    )


def test_splits_tasks_and_seeds_have_streams_of_their_own():
    things = [
        sample_scene(seed, split, task).things
        for split in SPLITS
        for task in ("color", "exists", None)
        for seed in (0, 1)
    ]
    assert len(set(things)) == len(things)


@pytest.mark.parametrize("task", EVERY)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_held_out_pair_is_ever_seen(task: str | None, split: str):
    for scene in scenes(task, 60, split):
        looks = [look for thing in scene.things for look in thing.looks.values]
        assert not [look.phrase for look in looks if held_out_look(look.name, look.color)]
        for event in scene.events:
            assert not held_out_action(actor(scene.things[event.thing].look), event.action)


@pytest.mark.parametrize("task", EVERY)
def test_every_scene_of_combos_holds_a_held_out_pair(task: str | None):
    acted = 0
    for scene in scenes(task, 60, "combos"):
        looks = [look for thing in scene.things for look in thing.looks.values]
        assert [look for look in looks if held_out_look(look.name, look.color)]
        acted += any(
            held_out_action(actor(scene.things[e.thing].look), e.action) for e in scene.events
        )
    if task in ("order", "when", "state", "caption", "repeat"):
        assert acted > 5


@pytest.mark.parametrize("task", ["color", "shape", "move", "order", "when"])
def test_everything_colored_in_combos_is_held_out_so_whatever_is_asked_is(task: str):
    for scene in scenes(task, 60, "combos"):
        assert all(held_out_look(thing.look.name, thing.look.color) for thing in scene.things)


# Every scene


@pytest.mark.parametrize("task", EVERY)
def test_things_stay_in_the_picture_unless_they_come_or_leave(task: str | None):
    for scene in scenes(task):
        stay = [k for k in range(len(scene.things)) if k not in comes_or_goes(scene)]
        found = boxes(scene, scene.times)[:, stay]
        found = found[~np.isnan(found)]
        assert found.size == 0 or (found.min() > -1e-9 and found.max() < 1 + 1e-9)


@pytest.mark.parametrize("task", FILMS)
@pytest.mark.parametrize(("frames", "fps"), [(8, 2.0), (64, 29.97), (200, 0.3)])
def test_events_begin_and_end_at_frames_within_the_film(task: str, frames: int, fps: float):
    for seed in range(20):
        scene = sample_scene(seed, "train", task, frames=frames, fps=fps)
        instants = {*scene.times.tolist()}
        if task == "needle":  # may be over with the film
            instants.add(scene.duration)
        for event in scene.events:
            assert {event.start, event.end} <= instants
            assert event.start <= event.end
        starts = [event.start for event in scene.events]
        assert starts == sorted(starts)


@pytest.mark.parametrize("task", STORIES)
def test_nearly_all_things_are_clear_of_each_other(task: str):
    crossed = 0
    for scene in scenes(task):
        pairs = ((i, j) for j in range(len(scene.things)) for i in range(j))
        crossed += any(overlap(scene, i, j) > 0.05 for i, j in pairs)
    assert crossed <= 9


def test_some_things_hide_parts_of_others():
    found = [
        overlap(scene, i, j)
        for scene in scenes("exists", 200)
        for j in range(len(scene.things))
        for i in range(j)
    ]
    assert 0.02 < np.mean([share > 0.05 for share in found]) < 0.1
    assert max(found) < 0.5


def test_each_look_can_be_named_by_one_phrase():
    for task in STORIES:
        for scene in scenes(task):
            names = [thing.look.phrase for thing in scene.things if thing.look.kind != "sign"]
            assert len(set(names)) == len(names) or task == "count"


def test_the_mixture_holds_everything():
    films = scenes(None, 500)
    actions = {event.action for scene in films for event in scene.events}
    assert actions >= {"move", "bounce", "spin", "grow", "shrink", "blink", "appear", "leave"}
    assert actions >= {"change", "pick up", "swap", "stop", "turn"}
    moving = sum(len(s.camera.x.times) + len(s.camera.zoom.times) > 2 for s in films)
    lit = sum(len(scene.light.times) > 1 for scene in films)
    cut = sum(bool(scene.cuts) for scene in films)
    for number in (moving, lit, cut):
        assert 15 < number < 125
    assert {len(scene.things) for scene in films} == {1, 2, 3, 4, 5, 6}
    assert any(scene.sounds for scene in films)
    assert any(scene.narration for scene in films)


# Long films, shapes of the picture, numbers


@pytest.mark.parametrize("task", [None, *FILMS])
def test_sixty_four_frames_of_the_longest_film_show_its_events(task: str | None):
    for seed in range(4):
        scene = sample_scene(seed, "val", task, frames=LONGEST, fps=10.0)
        watched = np.linspace(0, LONGEST - 1, 64).round() / scene.fps
        for event in scene.events:
            if task == "needle":
                assert event.end - event.start == pytest.approx(1 / scene.fps)
            elif event.end > event.start:
                assert ((watched >= event.start) & (watched <= event.end)).sum() >= 1
        assert sum(len(thing.x.times) for thing in scene.things) < 200


@pytest.mark.parametrize("aspect", [0.25, 1.5, 4.0])
@pytest.mark.parametrize("things", [1, 2, 6])
def test_as_many_things_as_wanted_in_any_picture(aspect: float, things: int):
    for task in EVERY:
        if task and STORIES[task].things > things:
            continue
        frames = 1 if task in PICTURES else 8
        scene = sample_scene(3, "test", task, frames=frames, aspect=aspect, things=things)
        assert len(scene.things) == things
        assert scene.aspect == aspect


class Photographs:
    """A library of two classes and all spoken digits."""

    classes = ("horse", "truck")

    def count(self, kind: str, name: str, split: str) -> int:
        return 5

    def variant(self, kind: str, name: str, split: str, rng: np.random.Generator) -> int:
        return SPLITS.index(split) + 4 * int(rng.integers(5))


def test_photographs_and_voices_join_in_where_the_library_has_them():
    made: Callable[..., Scene] = sample_scene
    films = [made(seed, "val", "exists", library=Photographs()) for seed in range(60)]
    photos = [t.look for s in films for t in s.things if t.look.kind == "sprite"]
    assert {look.name for look in photos} == {"horse", "truck"}
    assert all(look.color == "" and look.variant % 4 == 1 for look in photos)
    assert {scene.backgrounds.values[0].kind for scene in films} == {"photo", "texture"}
    heard = [made(seed, task="sound", library=Photographs()).sounds for seed in range(20)]
    assert {sound.kind for sounds in heard for sound in sounds} == {"tone", "digit"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "0 frames are out of range"),
        ({"frames": LONGEST + 1}, "10001 frames are out of range"),
        ({"fps": 0.0}, "0.0 frames a second"),
        ({"fps": float("nan")}, "nan frames a second"),
        ({"aspect": 0.2}, "aspect 0.2 is out of range"),
        ({"aspect": 4.1}, "aspect 4.1 is out of range"),
        ({"things": 0}, "0 things are out of range"),
        ({"things": 7}, "7 things are out of range"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"split": "training"}, "unknown split 'training'; did you mean 'train'"),
        ({"task": "needles"}, "unknown task 'needles'; did you mean 'needle'"),
        ({"task": "order", "frames": 3}, "task 'order' needs a film of at least 4 frames: 3"),
        ({"task": "cause", "things": 1}, "task 'cause' needs at least 2 things: 1"),
    ],
)
def test_what_is_out_of_range_is_named(wrong: dict[str, object], message: str):
    with pytest.raises(UserError) as caught:
        sample_scene(**{"seed": 0, **wrong})  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
