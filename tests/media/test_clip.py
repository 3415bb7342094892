from __future__ import annotations

import pytest
import torch

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError


def pixels(total: int = 4, height: int = 2, width: int = 3) -> torch.Tensor:
    return torch.arange(total * height * width * 3, dtype=torch.uint8).reshape(
        total, height, width, 3
    )


def test_frames_come_in_the_order_asked_with_duplicates():
    clip = Clip.from_frames(pixels(), fps=2)
    assert torch.equal(clip.frames([3, 0, 3, -1]), pixels()[[3, 0, 3, 3]])
    assert torch.equal(clip.frames(), pixels())
    assert clip.frames([]).shape == (0, 2, 3, 3)


@pytest.mark.parametrize("index", [4, -5])
def test_a_frame_the_clip_lacks_is_named(index):
    with pytest.raises(UserError, match=rf"there is no frame {index}; it has 4"):
        Clip.from_frames(pixels(), fps=2).frames([0, index])


def test_times_come_from_fps_or_from_timestamps():
    assert Clip.from_frames(pixels(), fps=2).timestamps.tolist() == [0, 0.5, 1, 1.5]
    assert Clip.from_frames(pixels(), fps=2).duration == 2
    clip = Clip.from_frames(pixels(), timestamps=[1, 2, 4, 7])
    assert clip.timestamps.tolist() == [1, 2, 4, 7]
    assert clip.duration == 9


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({}, "either fps or timestamps"),
        ({"fps": 1, "timestamps": [0, 1, 2, 3]}, "either fps or timestamps"),
        ({"fps": 0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"timestamps": [0, 1, 2]}, "need 4 timestamps"),
        ({"timestamps": [0, 1, 1, 2]}, "rise"),
        ({"timestamps": [0, 1, 2, float("nan")]}, "rise"),
    ],
)
def test_wrong_times_are_refused(times, message):
    with pytest.raises(UserError, match=message):
        Clip.from_frames(pixels(), **times)


@pytest.mark.parametrize(
    "frames",
    [pixels().float(), pixels()[0], pixels()[..., :2], pixels(0)],
    ids=["float", "three dimensions", "two channels", "none"],
)
def test_other_shapes_and_types_are_refused(frames):
    with pytest.raises(UserError):
        Clip.from_frames(frames, fps=1)


def test_a_picture_has_one_frame_at_zero():
    clip = Clip.from_picture(pixels()[0], origin="a.png")
    assert (clip.kind, len(clip), clip.duration, clip.key_frames) == ("picture", 1, 0, (0,))
    assert clip.timestamps.dtype == torch.float64
    assert clip.audio() is None


def test_digest_tells_shapes_times_and_kinds_apart():
    same_bytes = [
        Clip.from_frames(pixels(4, 2, 3), fps=1),
        Clip.from_frames(pixels(4, 3, 2), fps=1),
        Clip.from_frames(pixels(2, 4, 3), fps=1),
        Clip.from_frames(pixels(4, 2, 3), fps=2),
        Clip.from_frames(pixels(1, 8, 3), fps=1),
        Clip.from_picture(pixels(1, 8, 3)[0]),
    ]
    assert len({clip.digest() for clip in same_bytes}) == len(same_bytes)
    assert Clip.from_frames(pixels(), fps=1).digest() == same_bytes[0].digest()
