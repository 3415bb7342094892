from __future__ import annotations

import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.ops.merge import bipartite_matching, merge_schedule


def merged(x: Tensor, size: Tensor, metric: Tensor, r: int, protected: int):
    matching = bipartite_matching(metric, r, protected)
    assert matching is not None
    return (*matching.average(x, size), matching)


def test_one_merge_equals_the_official_one(golden) -> None:
    case = golden("tome", "a")
    ones = torch.ones(case["in_x"].shape[:2])
    x, size, matching = merged(case["in_x"], ones, case["in_metric_0"], int(case["p_r"][0]), 1)
    torch.testing.assert_close(x, case["out_x_0"], atol=1e-5, rtol=0)
    torch.testing.assert_close(size[..., None], case["out_size_0"])
    source = torch.zeros_like(case["out_source"]).scatter_(1, matching.target[:, None], 1.0)
    assert torch.equal(source, case["out_source"])
    unmerged = x.gather(1, matching.target[..., None].expand(-1, -1, x.shape[-1]))
    torch.testing.assert_close(unmerged, case["out_unmerged_last"], atol=1e-5, rtol=0)


def test_three_merges_in_a_row_equal_the_official_ones(golden) -> None:
    case = golden("tome", "b")
    x, size = case["in_x"], torch.ones(case["in_x"].shape[:2])
    for step, r in enumerate(case["p_r"].tolist()):
        x, size, _ = merged(x, size, case[f"in_metric_{step}"], r, 0)
        torch.testing.assert_close(x, case[f"out_x_{step}"], atol=1e-5, rtol=0)
        torch.testing.assert_close(size[..., None], case[f"out_size_{step}"])
    assert size.sum().item() == case["in_x"].shape[1]


def test_schedules_equal_the_official_ones(golden) -> None:
    case = golden("tome", "d")
    for place in range(3):
        request = case[f"p_request_{place}"]
        layers = int(case[f"p_layers_{place}"])
        if bool(case[f"p_is_pair_{place}"]):
            got = merge_schedule(layers, int(request[0]), float(request[1]))
        elif request.ndim:
            got = merge_schedule(layers, request.tolist())
        else:
            got = merge_schedule(layers, int(request))
        assert got == case[f"out_schedule_{place}"].tolist()


def test_nothing_to_merge_is_no_matching() -> None:
    assert bipartite_matching(torch.randn(1, 8, 4), 0) is None
    assert bipartite_matching(torch.randn(1, 2, 4), 5, protected=1) is None


def test_at_most_half_of_what_may_go_is_merged() -> None:
    matching = bipartite_matching(torch.randn(1, 9, 4), 100, protected=1)
    assert matching is not None
    assert matching.count == 5


def test_the_knobs_give_the_schedule() -> None:
    assert build("tome", {"r": 4}).merging(3, 16).removed == [4, 4, 4]
