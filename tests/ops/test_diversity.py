from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsight.ops.diversity import cosine_distance, largest_determinant, max_min


def by_hand(distance: Tensor, count: int) -> list[int]:
    """The max-min choice in loops, ties to the lower index."""
    size = len(distance)
    lonely = [min(float(distance[i, j]) for j in range(size) if j != i) for i in range(size)]
    chosen = [lonely.index(max(lonely))]
    while len(chosen) < count:
        best = {
            i: min(float(distance[i, j]) for j in chosen) for i in range(size) if i not in chosen
        }
        chosen.append(max(best, key=lambda i: best[i]))
    return chosen


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_the_choice_equals_a_loop(size: int, seed: int) -> None:
    x = torch.randn(2, size, 4, generator=torch.Generator().manual_seed(seed))
    distance = cosine_distance(x)
    distance = (distance + distance.mT) / 2
    order = max_min(distance, size)
    # The farthest pair may be each other's nearest: then the first is the lower of the two.
    assert order.tolist() == [by_hand(one, size) for one in distance]


def test_copies_are_chosen_last_and_never_twice() -> None:
    x = torch.eye(4)[None, [0, 1, 0, 2, 1, 3]]
    order = max_min(cosine_distance(x), 6)[0].tolist()
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    assert {tuple(x[0, i].tolist()) for i in order[:4]} == {tuple(row) for row in x[0].tolist()}


def test_one_token_is_chosen() -> None:
    assert max_min(torch.zeros(2, 1, 1), 1).tolist() == [[0], [0]]


@given(st.integers(1, 9), st.integers(0, 10_000))
def test_the_determinant_is_the_largest_at_every_step(size: int, seed: int) -> None:
    x = torch.randn(2, size, 12, generator=torch.Generator().manual_seed(seed))
    kernel = (x @ x.mT).double()
    for one, order in zip(kernel, largest_determinant(kernel, size).tolist(), strict=True):
        assert sorted(order) == list(range(size))
        for step in range(size):
            chosen = order[: step + 1]
            best = max(
                float(torch.linalg.det(one[rows][:, rows]))
                for i in order[step:]
                for rows in [[*order[:step], i]]
            )
            torch.testing.assert_close(float(torch.linalg.det(one[chosen][:, chosen])), best)


def test_beyond_the_rank_tokens_come_by_their_own_entry() -> None:
    x = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.5, 1.5], [0.0, 1.0]]])
    assert largest_determinant(x @ x.mT, 5).tolist() == [[0, 1, 3, 2, 4]]
