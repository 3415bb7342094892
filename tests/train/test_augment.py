"""Augmentations: pure functions of pixels and random numbers."""

from __future__ import annotations

import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.train.augment import Augment, blur, color, crop, drop, flip, generator, jitter
from tests.vlm.tiny import film

FRAMES = film(20, 30, 1, frames=3)


def test_the_key_alone_decides_the_random_numbers():
    first = torch.rand(4, generator=generator(1, 2, 3))
    assert torch.equal(first, torch.rand(4, generator=generator(1, 2, 3)))
    assert not torch.equal(first, torch.rand(4, generator=generator(1, 3, 2)))


def test_nothing_is_changed_at_strength_0():
    none = Augment(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert torch.equal(none.pixels(FRAMES, generator(1)), FRAMES)
    assert none.frames([0, 4, 8], 9, generator(1)) == [0, 4, 8]


def test_the_default_never_mirrors():
    plain = Augment(color=0.0, crop=0.0, blur=0.0)
    assert all(torch.equal(plain.pixels(FRAMES, generator(k)), FRAMES) for k in range(20))


def test_all_frames_change_alike():
    still = FRAMES[:1].expand(3, -1, -1, -1)
    changed = Augment(color=0.3, crop=0.3, blur=0.5, flip=0.5).pixels(still, generator(4))
    assert changed.dtype == torch.uint8
    assert torch.equal(changed[0], changed[1])
    assert torch.equal(changed[0], changed[2])


def test_a_crop_cuts_out_a_part_no_smaller_than_said():
    places = set()
    for key in range(30):
        found = crop(FRAMES, 0.3, generator(key))
        _, height, width, _ = found.shape
        assert 14 <= height <= 20
        assert 21 <= width <= 30
        spots = [
            (top, left)
            for top in range(21 - height)
            for left in range(31 - width)
            if torch.equal(FRAMES[:, top : top + height, left : left + width], found)
        ]
        assert len(spots) == 1
        places |= set(spots)
    assert {top for top, _ in places} >= {0, 1, 2}
    assert max(left for _, left in places) >= 5


def test_color_changes_brightness_contrast_and_saturation_within_bounds():
    gray = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    levels = {int(color(gray, 0.2, generator(key))[0, 0, 0, 0]) for key in range(40)}
    assert min(levels) in range(80, 90)
    assert max(levels) in range(111, 121)
    red = torch.tensor([200, 100, 100], dtype=torch.uint8).expand(1, 4, 4, 3)
    found = [color(red, 0.2, generator(key)).float() for key in range(40)]
    spreads = [float(frames.amax() - frames.amin()) for frames in found]
    assert min(spreads) < 95
    assert max(spreads) > 105


def test_a_blur_averages_neighbours():
    point = torch.zeros(1, 5, 5, 3, dtype=torch.uint8)
    point[0, 2, 2] = 160
    found = blur(point, 0.999, generator(1))[0, :, :, 0]
    assert found[2].tolist() == [0, 20, 40, 20, 0]
    assert found[1].tolist() == [0, 10, 20, 10, 0]
    flat = torch.full((1, 4, 4, 3), 77, dtype=torch.uint8)
    assert torch.equal(blur(flat, 0.999, generator(1)), flat)
    hits = sum(not torch.equal(blur(point, 0.3, generator(key)), point) for key in range(200))
    assert 40 < hits < 80


def test_a_flip_mirrors_left_and_right():
    assert torch.equal(flip(FRAMES, 1.0, generator(0)), FRAMES.flip(2))


def test_jitter_keeps_order_and_bounds():
    chosen = [0, 10, 20, 30]
    found = [jitter(chosen, 31, 0.9, generator(key)) for key in range(50)]
    assert all(item == sorted(set(item)) and item[0] >= 0 and item[-1] <= 30 for item in found)
    assert {item[1] for item in found} >= {7, 10, 13}
    assert all(6 <= item[1] <= 14 for item in found)
    assert jitter([5], 9, 0.9, generator(0)) == [5]


def test_drop_thins_frames_and_leaves_one():
    chosen = list(range(100))
    counts = [len(drop(chosen, 0.2, generator(key))) for key in range(20)]
    assert 70 < sum(counts) / 20 < 90
    assert set(drop(chosen, 0.5, generator(1))) < set(chosen)
    assert all(drop([3, 4], 0.99, generator(key)) for key in range(20))


def test_a_strength_out_of_range_is_named():
    with pytest.raises(UserError, match=r"augmentation crop is a share .*, not 1\.5"):
        Augment(crop=1.5)
