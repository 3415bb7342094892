from __future__ import annotations

import pytest
import torch

from sparsight.ops.relevance import relevance_of_row, relevance_target


def test_a_row_of_the_rollout_is_that_of_the_whole_matrix() -> None:
    maps = [torch.rand(3, 7, 7).tril() for _ in range(4)]
    gradients = [torch.randn(3, 7, 7) for _ in range(4)]
    rollout = torch.eye(7)
    for attention, gradient in zip(maps, gradients, strict=True):
        rollout = rollout + (attention * gradient).clamp_min(0).mean(0) @ rollout
    for row in range(7):
        found = relevance_of_row(maps, gradients, row)
        torch.testing.assert_close(found, rollout[row])
        assert (found[row + 1 :] == 0).all()  # nothing of what comes later


def test_without_gradients_each_token_is_relevant_to_itself_alone() -> None:
    maps = [torch.rand(2, 5, 5) for _ in range(3)]
    found = relevance_of_row(maps, [torch.zeros_like(item) for item in maps], 3)
    assert found.tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_a_target_is_a_distribution_over_the_better_half_in_its_order(count: int) -> None:
    relevance = torch.rand(3, count)
    target = relevance_target(relevance)
    assert torch.allclose(target.sum(-1), torch.ones(3))
    for row, given in zip(target, relevance, strict=True):
        assert int((row > 0).sum()) == count - count // 2
        kept = row.nonzero()[:, 0]
        assert torch.equal(row[kept].argsort(), given[kept].argsort())
        assert given[kept].min() >= given.sort().values[count // 2]


def test_relevance_of_nothing_says_nothing() -> None:
    assert relevance_target(torch.zeros(4)).tolist() == [0.25] * 4
