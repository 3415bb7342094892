from __future__ import annotations

import torch

from sparsight.ops.cluster import distances, dpc_knn


def groups() -> torch.Tensor:
    """Three tight groups of 6, 5 and 4 tokens, shuffled."""
    where = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]).repeat_interleave(
        torch.tensor([6, 5, 4]), 0
    )
    return (where + 0.1 * torch.randn(15, 2))[torch.randperm(15)][None]


def test_groups_that_lie_apart_are_found() -> None:
    x = groups()
    found = dpc_knn(x, 3, 3)
    assert sorted(found.sizes[0].tolist()) == [4, 5, 6]
    assert (x[0] - found.mean(x)[0, found.label[0]]).norm(dim=-1).max() < 1


def test_a_centre_belongs_to_its_own_cluster() -> None:
    x = torch.zeros(1, 6, 4)  # all tokens are equally near to all centres
    found = dpc_knn(x, 3, 3)
    assert found.centre[0].tolist() == [0, 1, 2]
    assert found.label[0].tolist() == [0, 1, 2, 0, 0, 0]


def test_as_many_clusters_as_tokens_leave_every_token_alone() -> None:
    x = torch.randn(2, 5, 3)
    found = dpc_knn(x, 5, 5)
    assert torch.equal(found.mean(x), x.gather(1, found.centre[..., None].expand(-1, -1, 3)))


def test_distances_equal_the_direct_ones_far_from_the_origin() -> None:
    x = torch.randn(2, 9, 16) + 100
    exact = (x[:, :, None].double() - x[:, None].double()).norm(dim=-1)
    torch.testing.assert_close(distances(x), exact.float(), atol=1e-4, rtol=1e-4)


def test_rows_of_a_batch_are_clustered_apart() -> None:
    x = torch.cat([groups(), groups()])
    both = dpc_knn(x, 3, 3)
    for row in range(2):
        alone = dpc_knn(x[row : row + 1], 3, 3)
        assert torch.equal(both.label[row], alone.label[0])
        assert torch.equal(both.centre[row], alone.centre[0])
