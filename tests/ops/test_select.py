from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsight.ops.select import even, top, top_per_group

SCORES = st.lists(st.integers(0, 4).map(float), max_size=12)


@given(SCORES, st.integers(0, 15))
def test_top_equals_a_sort_with_ties_to_the_lower_index(scores: list[float], count: int) -> None:
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count]
    assert top(torch.tensor(scores), count).tolist() == sorted(best)


@given(st.integers(1, 200), st.data())
def test_even_indices_hold_both_ends_and_never_repeat(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, total)) if total > 1 else 1
    got = even(total, count).tolist()
    assert len(set(got)) == len(got) == count
    assert got == sorted(got)
    if count > 1:
        assert (got[0], got[-1]) == (0, total - 1)
        assert all(abs(place - i * (total - 1) / (count - 1)) <= 0.5 for i, place in enumerate(got))


@given(st.integers(0, 50))
def test_taking_all_evenly_is_all(total: int) -> None:
    assert even(total, total).tolist() == list(range(total))


def test_one_even_index_is_the_first_and_none_are_none() -> None:
    assert even(9, 1).tolist() == [0]
    assert even(9, 0).tolist() == []


def test_even_indices_are_exact_beyond_float32() -> None:
    total = 2**25 + 2
    assert even(total, 3).tolist() == [0, 2**24, total - 1]


@given(st.data(), st.integers(1, 4), st.integers(0, 12))
def test_the_best_of_each_group_equal_a_loop(data: st.DataObject, groups: int, size: int) -> None:
    scores = data.draw(st.lists(st.integers(0, 3).map(float), min_size=size, max_size=size))
    group = data.draw(st.lists(st.integers(0, groups - 1), min_size=size, max_size=size))
    quota = data.draw(st.lists(st.integers(0, 5), min_size=groups, max_size=groups))
    expected = []
    for number in range(groups):
        members = [place for place in range(size) if group[place] == number]
        members.sort(key=lambda place: (-scores[place], place))
        expected += members[: quota[number]]
    got = top_per_group(
        torch.tensor(scores), torch.tensor(group, dtype=torch.long), torch.tensor(quota)
    )
    assert got.tolist() == sorted(expected)
