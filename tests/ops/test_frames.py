from __future__ import annotations

import torch

from sparsight.core.tokens import patch_boxes
from sparsight.ops.frames import cosine_to_previous, filled_forward, frame_table


def test_frames_of_one_size_are_rows_of_a_table() -> None:
    view = torch.tensor([0, 0, 4, 4, 5, 5])
    assert frame_table(view, torch.rand(6, 4)).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert frame_table(view[:0], torch.rand(0, 4)).shape == (0, 0)


def test_tokens_that_are_missing_leave_their_place_empty() -> None:
    box = patch_boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4), (2, 3)).flatten(0, 2)
    there = torch.tensor([0, 1, 2, 3, 4, 5, 6, 10])
    view = torch.tensor([0] * 6 + [1] * 2)
    table = frame_table(view, box[there])
    assert table.tolist() == [[0, 1, 2, 3, 4, 5], [6, -1, -1, -1, 7, -1]]


def test_an_empty_place_is_filled_from_the_frames_before() -> None:
    table = torch.tensor([[0, -1, 1], [-1, 2, -1], [3, -1, -1]])
    assert filled_forward(table).tolist() == [[0, 2, 1], [0, 2, 1], [3, 2, 1]]


def test_the_cosine_is_to_the_same_place_of_the_frame_before() -> None:
    x = torch.tensor([[[1.0, 0], [0, 1]], [[2, 0], [1, 0]], [[0, -1], [3, 0]]])
    assert cosine_to_previous(x).tolist() == [[1, 0], [0, 1]]
