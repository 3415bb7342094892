"""Rows of several samples: how they are filled, and the mask that keeps samples apart."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.core.errors import UserError
from sparsight.train.packing import packed_mask, rows_of, segments


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_rows_hold_every_sample_once_and_no_more_than_they_may(lengths: list[int]):
    rows = rows_of(lengths, 50)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    sums = [sum(lengths[place] for place in row) for row in rows]
    assert max(sums) <= 50
    assert len(rows) <= 2 * -(-sum(lengths) // 50)  # no two rows are both half empty
    assert all(a + b > 50 for a, b in pairwise(sums))


def test_segments_are_padded_on_the_left():
    found = segments([[2, 1], [4]], torch.device("cpu"))
    assert found.tolist() == [[-1, 0, 0, 1], [0, 0, 0, 0]]


def test_a_token_sees_its_own_sample_up_to_itself():
    segment = segments([[2, 2], [3]], torch.device("cpu"))
    seen = packed_mask(segment, "sdpa", torch.float32)
    assert seen.shape == (2, 1, 4, 4)
    assert seen[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert seen[1, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]
    added = packed_mask(segment, "eager", torch.float32)
    assert torch.equal(added == 0, seen)
    with pytest.raises(UserError, match="sdpa or eager attention, and the model has flash_att"):
        packed_mask(segment, "flash_attention_2", torch.float32)
