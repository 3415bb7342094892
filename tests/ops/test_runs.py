from __future__ import annotations

import torch

from sparsight.ops.runs import groups_in_runs


def test_runs_are_cut_into_groups_and_the_last_may_be_smaller() -> None:
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0]]).bool()
    medium = torch.tensor([[-1, 0, 0, 0, 0, 0, -1, 1, 1, -1], [0, 0, 0, 0, 1, 1, 1, 1, -1, -1]])
    group, middle = groups_in_runs(mask, medium, 3)
    assert group.tolist() == [
        [-1, 0, 0, 0, 1, 1, -1, 2, 2, -1],
        [0, 0, 0, 1, 2, 2, 2, 3, -1, -1],
    ]
    assert [row.nonzero()[:, 0].tolist() for row in middle] == [[2, 4, 7], [1, 3, 5, 7]]


def test_groups_of_one_are_the_tokens_themselves() -> None:
    mask = torch.tensor([[True, False, True, True]])
    group, middle = groups_in_runs(mask, mask.long(), 1)
    assert group.tolist() == [[0, -1, 1, 2]]
    assert torch.equal(middle, mask)


def test_nothing_to_group() -> None:
    group, middle = groups_in_runs(torch.zeros(1, 3).bool(), torch.zeros(1, 3).long(), 2)
    assert group.tolist() == [[-1, -1, -1]]
    assert not middle.any()
