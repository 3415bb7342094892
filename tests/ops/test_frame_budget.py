from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.frame_budget import (
    capped_shares,
    frame_budgets,
    grid_within,
    sharpened_shares,
)

SURE = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12).map(torch.tensor)


@given(SURE)
def test_shares_sum_to_one_even_where_nothing_is_sure(sure: torch.Tensor) -> None:
    assert float(sharpened_shares(sure).sum()) == pytest.approx(1)
    assert sharpened_shares(torch.zeros(4)).tolist() == [0.25] * 4


def test_no_constant_and_no_order_changes_the_budgets() -> None:
    sure = torch.tensor([0.1, 0.8, 0.3, 0.02], dtype=torch.float64)
    budgets = frame_budgets(sharpened_shares(sure), 400)
    assert torch.equal(frame_budgets(sharpened_shares(sure * 0.37), 400), budgets)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(frame_budgets(sharpened_shares(sure[order]), 400), budgets[order])


@given(SURE, st.integers(1, 300), st.sampled_from([None, 16]))
def test_a_frame_that_is_surer_gets_no_fewer_tokens(
    sure: torch.Tensor, total: int, most: int | None
) -> None:
    budgets = frame_budgets(sharpened_shares(sure), total, most)
    surer = sure[:, None] > sure
    if most is None:
        assert bool((budgets[:, None] >= budgets)[surer].all())
    else:
        assert int(budgets.max()) <= most
    assert int(budgets.sum()) <= max(1, total)
    assert int(budgets.max()) >= 1


def test_equal_frames_get_equal_budgets() -> None:
    budgets = frame_budgets(sharpened_shares(torch.full((64,), 0.3)), 64 * 196)
    assert budgets.tolist() == [196] * 64


def test_one_frame_alone_gets_everything_or_all_that_it_has() -> None:
    share = torch.tensor([0.0, 1.0, 0.0])
    assert frame_budgets(share, 1000).tolist() == [0, 1000, 0]
    assert frame_budgets(share, 1000, 729).tolist() == [0, 729, 0]


def test_room_for_everything_leaves_everything() -> None:
    assert frame_budgets(torch.tensor([0.9, 0.1, 0.0]), 75, 25).tolist() == [25] * 3


def test_what_is_cut_off_goes_to_the_others_in_one_pass() -> None:
    share = torch.tensor([0.7, 0.2, 0.1])
    cut = capped_shares(share, 0.4)  # 0.3 too much; the sum after the cut is 0.7
    first = 0.2 + 0.2 / 0.7 * 0.3
    torch.testing.assert_close(cut, torch.tensor([0.4, first, 0.1 + 0.1 / 0.7 * 0.3]).double())
    assert torch.equal(capped_shares(share, 0.8), share.double())


@given(st.integers(1, 2000), st.integers(1, 40), st.integers(1, 40))
def test_a_grid_fills_its_count_but_for_a_row(count: int, height: int, width: int) -> None:
    rows, columns = grid_within(count, (height, width))
    assert 1 <= rows * columns <= count
    assert grid_within(height * width, (height, width)) == (height, width)


@given(st.integers(1, 2000))
def test_a_square_frame_loses_less_than_a_row(count: int) -> None:
    side = int(count**0.5)
    rows, columns = grid_within(count, (27, 27))
    assert (rows, columns) in {(side, side), (side + 1, side)}
    assert count - rows * columns < side + 1
