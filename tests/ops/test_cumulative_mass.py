from __future__ import annotations

import pytest
import torch

from sparsight.ops.cumulative_mass import falling_cuts, minimal_top_count


@pytest.mark.parametrize("eps", [0.5, 0.2, 0.05, 0.01])
def test_the_smallest_top_set_reaches_the_share_and_no_smaller_one_does(eps: float) -> None:
    mass = torch.rand(6, 40) ** 4
    for row, count in zip(mass, minimal_top_count(mass, 1 - eps).tolist(), strict=True):
        ranked = sorted(row.double().tolist(), reverse=True)
        assert sum(ranked[:count]) >= (1 - eps) * sum(ranked) * (1 - 1e-6)
        assert sum(ranked[: count - 1]) < (1 - eps) * sum(ranked)


def test_entries_without_mass_are_never_needed() -> None:
    mass = torch.tensor([[0.0, 0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert minimal_top_count(mass, 1.0).tolist() == [3, 1]
    assert minimal_top_count(mass, 0.5).tolist() == [1, 1]


def test_one_entry_may_hold_it_all() -> None:
    assert minimal_top_count(torch.tensor([0.02, 0.97, 0.01]), 0.95).item() == 1


def test_cuts_stand_where_the_flow_has_fallen_to_a_new_low_of_tokens() -> None:
    flow = [0.5, 0.6, 0.4, 0.25, 0.2, 0.2]
    effective = [0.9, 0.8, 0.7, 0.6, 0.7, 0.5]
    # Layer 2 has not fallen enough, layer 4 needs more tokens than layer 3.
    assert falling_cuts(flow, effective) == ([3, 5], [0.6, 0.5])


def test_of_many_cuts_those_that_save_most_are_taken() -> None:
    flow = [1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    effective = [0.9, 0.8, 0.3, 0.29, 0.28, 0.1, 0.09, 0.08]
    layers, shares = falling_cuts(flow, effective, most=2)
    assert layers == [2, 5]
    assert shares == [0.3, 0.1]
    assert falling_cuts(flow, effective, most=1) == ([2], [0.3])


def test_where_the_flow_has_ended_all_tokens_go() -> None:
    flow = [0.5, 0.4, 0.1, 0.001, 0.0]
    effective = [0.9, 0.8, 0.2, 0.9, 0.9]
    assert falling_cuts(flow, effective) == ([2, 3], [0.2, 0.0])
    assert falling_cuts(flow, effective, end=0.0) == ([2], [0.2])
    # It must stay ended: a lull is not the end.
    assert falling_cuts([0.5, 0.001, 0.4, 0.4, 0.4], [0.9] * 5) == ([], [])


def test_a_model_that_looks_at_everything_everywhere_is_not_cut() -> None:
    assert falling_cuts([0.5] * 4, [0.9] * 4) == ([], [])
