from __future__ import annotations

import torch

from sparsight.ops.group_rows import group_rows


def test_groups_of_a_size_stand_side_by_side() -> None:
    group = torch.tensor([7, 3, 7, 3, -1, 5, 7, 5, 3, 9])
    rows = group_rows(group, torch.tensor([0, 1, 2, 3, 5, 7, 8, 9]))
    assert [row.tolist() for row in rows] == [[[1, 3, 8]], [[5, 7], [0, 2]], [[9]]]


def test_no_member_is_no_row() -> None:
    assert group_rows(torch.tensor([1, 2]), torch.tensor([], dtype=torch.long)) == []
