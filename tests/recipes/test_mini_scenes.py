"""Scenes are reproducible, splits are apart, and the truth agrees with the pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from mini_render import frame_times, render, render_with_owners
from mini_scenes import COLORS, LETTERS, SIDE, Scene, sample_crowd, sample_scene

FILLED = ("circle", "square", "cross", "star")  # kinds whose box centre is theirs


@pytest.mark.parametrize("film", [False, True])
def test_same_arguments_give_same_scene_and_pixels(film):
    first, again = sample_scene(3, "train", film), sample_scene(3, "train", film)
    assert first == again
    assert np.array_equal(render(first), render(again))
    assert first != sample_scene(4, "train", film)


@pytest.mark.parametrize("film", [False, True])
def test_splits_share_no_scene(film):
    splits = {
        split: {sample_scene(seed, split, film) for seed in range(300)}
        for split in ("train", "val", "test")
    }
    assert all(len(scenes) == 300 for scenes in splits.values())
    for one, other in itertools.combinations(splits.values(), 2):
        assert not one & other


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="choose train, val or test"):
        sample_scene(0, "exam", film=False)


@pytest.mark.parametrize("frames", [4, 8, 16])
def test_film_length_changes_the_frames_not_the_scene(frames):
    long, short = sample_scene(5, "val", True, frames=frames), sample_scene(5, "val", True)
    assert long.things == short.things
    assert render(long).shape == (frames, SIDE, SIDE, 3)
    assert np.abs(render(long)[-1].astype(int) - render(short)[-1]).mean() < 12  # grain alone


@pytest.mark.parametrize("film", [False, True])
def test_boxes_hold_the_pixels_of_their_thing(film):
    for seed in range(60):
        scene = sample_scene(seed, "test", film)
        frames, owners = render_with_owners(scene)
        for frame, time in enumerate(frame_times(scene.frames)):
            for index, thing in enumerate(scene.things):
                ys, xs = np.nonzero(owners[frame] == index + 1)
                box = thing.box(time)
                assert (len(ys) > 0) == (box is not None)
                if box is None:
                    continue
                left, top, right, bottom = box
                assert min(left, top) >= 0
                assert max(right, bottom) <= SIDE
                assert left <= xs.min() <= xs.max() < right
                assert top <= ys.min() <= ys.max() < bottom
                mean = frames[frame][ys, xs].mean(0)
                assert np.abs(mean - COLORS[thing.color]).max() < 45


def test_color_stands_at_the_box_centre():
    for seed in range(80):
        scene = sample_scene(seed, "test", False)
        for thing in scene.things:
            if thing.kind in FILLED:
                x, y = (int(at) for at in thing.start)
                seen = render(scene)[0, y - 2 : y + 3, x - 2 : x + 3].mean((0, 1))
                nearest = min(COLORS, key=lambda name: np.abs(seen - COLORS[name]).sum())
                assert nearest == thing.color


def test_motion_and_appearance_are_seen_in_the_film():
    moves = set()
    for seed in range(80):
        scene = sample_scene(seed, "test", True)
        _, owners = render_with_owners(scene)
        for index, thing in enumerate(scene.things):
            mine = owners == index + 1
            there = mine.any((1, 2))
            assert np.array_equal(there, np.array(frame_times(8)) >= thing.appear)
            first, last = (np.argwhere(mine[i]).mean(0) for i in (there.argmax(), -1))
            dy, dx = last - first
            signs = {"left": dx < -8, "right": dx > 8, "up": dy < -8, "down": dy > 8}
            assert [way for way, seen in signs.items() if seen] == (
                [thing.motion] if thing.motion != "still" else []
            )
            moves.add(thing.motion)
    assert moves == {"left", "right", "up", "down", "still"}


def test_things_never_touch():
    for seed in range(40):
        scene = sample_scene(seed, "val", film=bool(seed % 2))
        _, owners = render_with_owners(scene)
        for index, thing in enumerate(scene.things):
            _, alone = render_with_owners(Scene((thing,), scene.frames, scene.background))
            assert (owners == index + 1).sum() == (alone == 1).sum()


def test_at_most_one_letter_so_that_which_letter_has_one_answer():
    for seed in range(200):
        scene = sample_scene(seed, "train", bool(seed % 2))
        assert sum(thing.kind in LETTERS for thing in scene.things) <= 1
        assert len({thing.name for thing in scene.things}) == len(scene.things)


def test_crowds_stay_in_the_picture():
    for seed in range(50):
        scene = sample_crowd(seed, "train")
        assert 5 <= len(scene.things) <= 9
        _, owners = render_with_owners(scene)
        assert set(np.unique(owners)) >= set(range(1, len(scene.things) + 1))
