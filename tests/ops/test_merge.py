from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.merge import bipartite_matching, merge_schedule


def by_hand(metric: torch.Tensor, r: int, protected: int) -> set[tuple[int, int]]:
    """The pairs (even token, odd token) that are merged, for one view."""
    unit = metric / metric.norm(dim=-1, keepdim=True)
    best = []
    for even in range(0, len(unit), 2):
        if even == 0 and protected >= 1:
            continue
        odds = range(3 if protected >= 2 else 1, len(unit), 2)
        score, odd = max((float(unit[even] @ unit[odd]), odd) for odd in odds)
        best.append((score, even, odd))
    best.sort(reverse=True)
    return {(even, odd) for _, even, odd in best[: min(r, (len(unit) - protected) // 2)]}


SIZES = st.tuples(st.integers(4, 15), st.integers(1, 9), st.integers(0, 2), st.integers(0, 10_000))


@given(SIZES)
def test_the_most_similar_pairs_meet_as_in_a_loop(sizes: tuple[int, int, int, int]) -> None:
    count, r, protected, seed = sizes
    metric = torch.randn(2, count, 4, generator=torch.Generator().manual_seed(seed))
    matching = bipartite_matching(metric, r, protected)
    assert matching is not None
    for view in range(2):
        pairs = by_hand(metric[view], r, protected)
        target = matching.target[view].tolist()
        assert matching.count == count - len(pairs)
        assert set(target) == set(range(matching.count))
        together = {
            (even, odd)
            for even in range(0, count, 2)
            for odd in range(1, count, 2)
            if target[even] == target[odd]
        }
        assert together == pairs


@given(SIZES)
def test_merging_conserves_sizes_and_their_weighted_sum(sizes: tuple[int, int, int, int]) -> None:
    count, r, protected, seed = sizes
    random = torch.Generator().manual_seed(seed)
    matching = bipartite_matching(torch.randn(2, count, 4, generator=random), r, protected)
    assert matching is not None
    x = torch.randn(2, count, 3, generator=random)
    size = torch.randint(1, 6, (2, count), generator=random).float()
    merged, grown = matching.average(x, size)
    assert grown.sum(1).equal(size.sum(1))
    torch.testing.assert_close(
        (merged * grown[..., None]).sum(1), (x * size[..., None]).sum(1), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("count", [5, 8, 9])
def test_cls_stays_first_and_alone(count: int) -> None:
    metric = torch.ones(1, count, 4)  # all alike: nothing but protection keeps CLS apart
    matching = bipartite_matching(metric, count, protected=1)
    assert matching is not None
    assert matching.target[0].tolist().count(0) == 1
    assert matching.target[0, 0] == 0


def test_a_distillation_token_stays_second_and_alone() -> None:
    matching = bipartite_matching(torch.ones(1, 8, 4), 8, protected=2)
    assert matching is not None
    target = matching.target[0].tolist()
    assert target[:2] == [0, 1]
    assert target.count(0) == target.count(1) == 1


def test_tokens_merged_with_themselves_stay_what_they_are() -> None:
    x = torch.randn(1, 1, 6).expand(1, 8, 6)
    matching = bipartite_matching(x, 4)
    assert matching is not None
    merged, size = matching.average(x, torch.ones(1, 8))
    assert merged.allclose(x[:, :4])
    assert size.sum() == 8


@given(st.integers(1, 48), st.integers(0, 40), st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]))
def test_a_schedule_removes_about_the_same_however_it_bends(
    layers: int, r: int, inflection: float
) -> None:
    schedule = merge_schedule(layers, r, inflection)
    assert len(schedule) == layers
    assert min(schedule) >= 0
    rising = [a <= b for a, b in pairwise(schedule)]
    falling = [a >= b for a, b in pairwise(schedule)]
    assert all(rising) if inflection > 0 else all(falling)
    if layers > 1:
        assert layers * (r - 1) <= sum(schedule) <= layers * r


def test_a_list_is_cut_or_filled_with_zeros() -> None:
    assert merge_schedule(3, [5, 4]) == [5, 4, 0]
    assert merge_schedule(1, [5, 4]) == [5]
