from __future__ import annotations

import pytest
import torch

from sparsight.ops.sub_clips import encoding_order, sub_clips


def test_strided_sub_clips_span_the_film_and_blocks_are_its_parts() -> None:
    assert sub_clips(8, 2).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert sub_clips(8, 2, "block").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("split", ["strided", "block"])
@pytest.mark.parametrize("clips", [1, 2, 3, 5])
@pytest.mark.parametrize("frames", [1, 2, 4, 7])
def test_split_and_put_back_is_the_film_itself(split, clips: int, frames: int) -> None:
    order = encoding_order(sub_clips(clips * frames, clips, split))
    assert torch.equal(order, torch.arange(clips * frames))


def test_frames_read_as_one_are_neighbours_of_a_sub_clip() -> None:
    order = encoding_order(sub_clips(8, 2), together=2)
    assert order.view(-1, 2).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert encoding_order(sub_clips(8, 2, "block"), together=2).tolist() == list(range(8))


def test_an_odd_sub_clip_repeats_its_last_frame() -> None:
    order = encoding_order(sub_clips(6, 2), together=2)
    assert order.view(-1, 2).tolist() == [[0, 2], [1, 3], [4, 4], [5, 5]]
    order = encoding_order(sub_clips(6, 2, "block"), together=2)
    assert order.view(-1, 2).tolist() == [[0, 1], [2, 2], [3, 4], [5, 5]]
