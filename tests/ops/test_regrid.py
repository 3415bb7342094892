from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.regrid import (
    adaptive_pool,
    coarser_grid,
    contact_sheet,
    resized,
    thumbnail,
    thumbnail_grid,
)

SIDE = st.integers(1, 30)


@given(SIDE, SIDE, st.integers(1, 1000))
def test_a_coarser_grid_is_within_the_grid_and_the_count(h: int, w: int, count: int) -> None:
    rows, columns = coarser_grid((h, w), count)
    assert 1 <= rows <= h
    assert 1 <= columns <= w
    assert rows * columns <= count


@given(SIDE, SIDE, st.integers(0, 50))
def test_room_for_every_cell_leaves_the_grid_alone(h: int, w: int, spare: int) -> None:
    assert coarser_grid((h, w), h * w + spare) == (h, w)


@given(st.integers(2, 30), st.integers(1, 30))
def test_a_square_grid_stays_nearly_square(side: int, small: int) -> None:
    rows, columns = coarser_grid((side, side), min(small, side) ** 2)
    assert max(rows, columns) / min(rows, columns) <= 1.5
    assert rows * columns >= min(small, side) ** 2 * 0.6


def test_a_line_stays_a_line() -> None:
    assert coarser_grid((1, 100), 10) == (1, 10)
    assert coarser_grid((100, 1), 10) == (10, 1)


@given(st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_adaptive_pooling_equals_means_over_overlapping_bins(
    size: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    x = torch.randn(*size, 2)
    got = adaptive_pool(x, shape)
    assert got.shape == (*shape, 2)
    for place in product(*map(range, shape)):
        bins = tuple(
            slice(p * n // m, math.ceil((p + 1) * n / m))
            for p, n, m in zip(place, size, shape, strict=True)
        )
        torch.testing.assert_close(got[place], x[bins].mean((0, 1, 2)), atol=1e-5, rtol=1e-5)


def test_pooling_to_the_same_size_is_the_same_tensor_in_any_precision() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16)
    assert adaptive_pool(x, (2, 3, 4)) is x


def test_pooling_in_half_precision_is_computed_in_full() -> None:
    x = torch.randn(1, 16, 16, 8).bfloat16()
    expected = x.float().mean((0, 1, 2)).bfloat16()
    assert adaptive_pool(x, (1, 1, 1)).flatten().equal(expected)


@given(st.integers(1, 200))
def test_a_thumbnail_holds_every_frame_in_the_squarest_grid(count: int) -> None:
    rows, columns = thumbnail_grid(count)
    assert rows * columns == count
    assert rows >= columns
    assert not any(count % c == 0 for c in range(columns + 1, math.isqrt(count) + 1))


@pytest.mark.parametrize(("count", "size"), [(1, (8, 8)), (6, (9, 8)), (5, (20, 8)), (4, (7, 9))])
def test_a_thumbnail_shows_the_frames_row_by_row(count: int, size: tuple[int, int]) -> None:
    rows, columns = thumbnail_grid(count)
    high, wide = size[0] // rows, size[1] // columns
    frames = torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 3, 8, 8)
    picture = thumbnail(frames, size)
    assert picture.shape == (3, rows * high, columns * wide)
    for place in range(count):
        top, left = place // columns * high, place % columns * wide
        assert picture[:, top : top + high, left : left + wide].allclose(torch.tensor(float(place)))


def test_a_contact_sheet_holds_its_frames_row_by_row() -> None:
    frames = torch.arange(1, 6, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 40, 60, 3)
    sheet = contact_sheet(frames, 3, (4, 6))
    assert sheet.shape == (8, 18, 3)
    cells = sheet[::4, ::6, 0]
    assert cells.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert torch.equal(sheet[4:, 12:], torch.zeros(4, 6, 3, dtype=torch.uint8))


def test_resizing_to_its_own_size_changes_no_frame() -> None:
    frames = torch.randint(0, 256, (2, 7, 9, 3), dtype=torch.uint8)
    assert torch.equal(resized(frames, (7, 9)), frames)
    fine = torch.tensor([0, 255], dtype=torch.uint8).repeat(20)[None, None, :, None]
    assert resized(fine.expand(1, 8, 40, 3), (4, 10)).float().sub(127.5).abs().max() <= 12
