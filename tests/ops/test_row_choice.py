from __future__ import annotations

import math

import torch

from sparsight.ops.row_choice import (
    best_in_rows,
    columns_of,
    mean_of_first,
    places_before,
    share_of,
)


def test_each_row_keeps_its_own_best_candidates() -> None:
    scores = torch.tensor([[9.0, 1.0, 3.0, 2.0], [1.0, 5.0, 4.0, 6.0]])
    candidates = torch.tensor([[False, True, True, True], [True, True, False, True]])
    mask = best_in_rows(scores, candidates, torch.tensor([2, 1]))
    assert mask.tolist() == [[False, False, True, True], [False, False, False, True]]


def test_ties_go_to_the_lower_index_and_a_row_without_candidates_has_none() -> None:
    candidates = torch.tensor([[True, True, True], [False, False, False]])
    mask = best_in_rows(torch.zeros(2, 3), candidates, torch.tensor([2, 2]))
    assert mask.tolist() == [[True, True, False], [False, False, False]]


def test_columns_are_listed_in_order_and_filled_up() -> None:
    mask = torch.tensor([[False, True, False, True], [False, False, True, False]])
    columns = columns_of(mask)
    assert columns[0].tolist() == [1, 3]
    assert columns[1, 0] == 2
    assert columns_of(torch.zeros_like(mask)).shape == (2, 1)


def test_what_a_row_was_filled_up_with_does_not_count() -> None:
    x = torch.tensor([[[2.0], [4.0]], [[3.0], [9.0]], [[5.0], [5.0]]])
    assert mean_of_first(x, torch.tensor([2, 1, 0])).tolist() == [[3.0], [3.0], [0.0]]


def test_kept_ones_move_only_as_far_as_those_behind_them_need_room() -> None:
    assert places_before(torch.tensor([0, 2, 5]), 8, 2).tolist() == [0, 2, 5, 6, 7]
    assert places_before(torch.tensor([0, 6, 7]), 8, 2).tolist() == [0, 4, 5, 6, 7]
    assert places_before(torch.tensor([5, 6, 7]), 8, 5).tolist() == [*range(8)]


def test_a_share_is_rounded_as_python_would() -> None:
    count = torch.arange(400)
    for share in (0.3, 1 - 0.7, 0.5, 0.7**2):
        numbers = count.tolist()
        assert share_of(count, share, "down").tolist() == [int(n * share) for n in numbers]
        assert share_of(count, share, "up").tolist() == [math.ceil(n * share) for n in numbers]
        assert share_of(count, share, "nearest").tolist() == [round(n * share) for n in numbers]
