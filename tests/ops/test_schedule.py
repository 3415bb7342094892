from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.schedule import in_blocks, sigmoid_of_mean, sigmoid_schedule


@given(
    depth=st.integers(2, 80),
    mean=st.floats(0.2, 1),
    steepness=st.floats(0.01, 50),
    floor=st.floats(0, 0.1),
)
def test_a_schedule_of_a_mean_has_it_and_never_rises(
    depth: int, mean: float, steepness: float, floor: float
) -> None:
    if mean < (1 + (depth - 1) * floor) / depth:
        return
    shares = sigmoid_of_mean(depth, mean, steepness, floor)
    assert sum(shares) / depth == pytest.approx(mean, rel=1e-2)
    assert shares[0] == 1.0
    assert all(1 >= a >= b >= 0 for a, b in pairwise(shares))


def test_a_steep_schedule_is_one_cut_at_the_centre() -> None:
    assert sigmoid_schedule(6, 1e4, 3.5, 0.25) == [1.0, 1.0, 1.0, 0.25, 0.25, 0.25]


def test_a_flat_schedule_is_constant_behind_the_first_layer() -> None:
    assert sigmoid_schedule(4, 0.0, 2.0, 0.5) == [1.0, 0.75, 0.75, 0.75]


def test_everything_is_everything_bit_for_bit() -> None:
    assert sigmoid_of_mean(5, 1.0, 0.5, 0.1) == [1.0] * 5


def test_a_mean_that_the_floor_forbids_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0\.55 and 1"):
        sigmoid_of_mean(2, 0.5, 1.0, 0.1)


def test_blocks_keep_the_mean_and_leave_the_first_layer_alone() -> None:
    shares = [1.0, 0.75, 0.25, 0.5, 0.0]
    assert in_blocks(shares, 2) == [1.0, 0.5, 0.5, 0.25, 0.25]
    assert in_blocks(shares, 1) == shares
