from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsight.core.tokens import patch_boxes
from sparsight.ops.view_grids import cells_for, deal, middle_of_cells, view_cells


def tokens(*grids: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The boxes (N, 4) and views (N,) of whole-picture views with these grids."""
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    boxes = [patch_boxes(whole, grid).flatten(0, 2) for grid in grids]
    views = [torch.full((len(box),), place) for place, box in enumerate(boxes)]
    return torch.cat(boxes), torch.cat(views)


def sizes(cells: Tensor) -> list[int]:
    return cells.unique(return_counts=True)[1].tolist()


@pytest.mark.parametrize("noise", [0.0, 1e-7])
@pytest.mark.parametrize("grid", [(2, 2), (16, 16), (24, 24), (27, 27), (32, 32), (7, 16), (1, 9)])
def test_a_view_is_cut_into_the_cells_of_a_coarser_grid(
    grid: tuple[int, int], noise: float
) -> None:
    box, view = tokens(grid)
    box = box + noise * torch.randn(box.shape)
    cells = view_cells(box, view, torch.arange(len(box)), {0: max(1, len(box) // 4)})
    height, width = -(-grid[0] // 2), -(-grid[1] // 2)
    if grid[0] % 2 == 0 and grid[1] % 2 == 0:
        rows, columns = torch.arange(grid[0]) // 2, torch.arange(grid[1]) // 2
        expected = (rows[:, None] * width + columns).flatten()
        assert torch.equal(cells.unique(return_inverse=True)[1], expected)
    assert len(cells.unique()) <= height * width


def test_views_never_share_a_cell() -> None:
    box, view = tokens((4, 4), (4, 4), (2, 6))
    cells = view_cells(box, view, torch.arange(len(box)), {0: 4, 1: 1, 2: 3})
    for cell in cells.unique():
        assert len(view[cells == cell].unique()) == 1
    assert [len(cells[view == place].unique()) for place in range(3)] == [4, 1, 3]


def test_tokens_that_are_no_candidates_stay_alone() -> None:
    box, view = tokens((2, 2))
    cells = view_cells(box, view, torch.tensor([0, 1, 3]), {0: 1})
    assert cells.tolist() == [0, 0, 2, 0]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    st.floats(0.01, 1),
)
def test_a_share_holds_for_each_view(grids: list[tuple[int, int]], keep: float) -> None:
    box, view = tokens(*grids)
    cells = cells_for(box, view, torch.ones(len(box), dtype=torch.bool), keep)
    for place, (height, width) in enumerate(grids):
        assert 1 <= len(cells[view == place].unique()) <= max(1, round(height * width * keep))


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    st.data(),
)
def test_a_count_is_never_passed_over_all_views(
    grids: list[tuple[int, int]], data: st.DataObject
) -> None:
    box, view = tokens(*grids)
    keep = data.draw(st.integers(1, len(box)))
    cells = cells_for(box, view, torch.ones(len(box), dtype=torch.bool), keep)
    kept = cells[cells >= 0]
    assert 1 <= len(kept.unique()) <= keep
    if keep == len(box):
        assert len(kept.unique()) == len(box)


@pytest.mark.parametrize("keep", [1.0, 11])
def test_keeping_everything_leaves_every_token_alone_even_without_a_full_grid(
    keep: float | int,
) -> None:
    box, view = tokens((4, 4))
    left = torch.tensor([0, 1, 2, 3, 5, 6, 9, 11, 12, 14, 15])
    cells = cells_for(box[left], view[left], torch.ones(len(left), dtype=torch.bool), keep)
    assert cells.tolist() == list(range(len(left)))


def test_separators_are_in_no_cell_with_others() -> None:
    box, view = tokens((2, 2))
    cells = cells_for(box, view, torch.tensor([True, True, False, True]), 1)
    assert sizes(cells) == [3, 1]
    assert cells.tolist().count(cells[2]) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_dealing_gives_whole_shares_that_add_up(groups: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(groups)))
    dealt = deal(count, groups)
    assert sum(dealt) == count
    for share, size in zip(dealt, groups, strict=True):
        assert abs(share - count * size / sum(groups)) < 1
        assert share <= size


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 36))
def test_the_middle_of_a_cell_is_its_member_nearest_the_mean(h: int, w: int, keep: int) -> None:
    box, view = tokens((h, w))
    cells = cells_for(box, view, torch.ones(h * w, dtype=torch.bool), min(keep, h * w))
    got = middle_of_cells(box, cells).tolist()
    expected = []
    centre = (box[:, :2] + box[:, 2:]) / 2
    for cell in cells.unique().tolist():
        members = (cells == cell).nonzero()[:, 0]
        distance = (centre[members] - centre[members].mean(0)).square().sum(1)
        near = members[distance <= distance.min() + 1e-6].tolist()
        [own] = [place for place in got if cells[place] == cell]
        assert own in near
        expected.append(own)
    assert got == sorted(expected)


def test_dropped_tokens_are_no_middle() -> None:
    box, _ = tokens((1, 3))
    assert middle_of_cells(box, torch.tensor([-1, 5, -1])).tolist() == [1]
