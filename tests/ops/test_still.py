from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsight.ops.still import still_positions, still_segments


def saved(alike: Tensor, segment: tuple[int, int]) -> int:
    first, last = segment
    return int(alike[first:last].all(0).sum()) * (last - first)


@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 8), st.integers(0, 10_000))
def test_no_other_segments_save_more(frames: int, size: int, longest: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    alike = torch.rand(frames - 1, size, generator=random) < 0.7
    found = still_segments(alike, longest)
    assert [frame for a, b in found.borders for frame in range(a, b + 1)] == list(range(frames))
    assert all(b - a < longest for a, b in found.borders)
    assert sum(saved(alike, segment) for segment in found.borders) == found.saved
    for count in range(frames):
        for cuts in combinations(range(1, frames), count):
            borders = [(a, b - 1) for a, b in pairwise([0, *cuts, frames])]
            if all(b - a < longest for a, b in borders):
                assert sum(saved(alike, segment) for segment in borders) <= found.saved


def test_a_film_that_stands_still_is_one_segment() -> None:
    found = still_segments(torch.ones(5, 3, dtype=torch.bool), 1024)
    assert found.borders == [(0, 5)]
    assert found.saved == 15


def test_frames_that_all_differ_stand_alone() -> None:
    found = still_segments(torch.zeros(3, 4, dtype=torch.bool), 1024)
    assert found.borders == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert found.saved == 0


@pytest.mark.parametrize(
    ("segment", "expected"),
    [((0, 0), [False, False]), ((0, 1), [True, True]), ((0, 2), [True, False])],
)
def test_a_position_is_still_if_it_is_alike_at_every_step(
    segment: tuple[int, int], expected: list[bool]
) -> None:
    alike = torch.tensor([[True, True], [True, False]])
    assert still_positions(alike, segment).tolist() == expected
