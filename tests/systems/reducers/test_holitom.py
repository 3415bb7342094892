from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from sparsight.llm.layout import Layout
from sparsight.ops.centres import merge_into_centres
from sparsight.ops.cluster import distances, dpc_knn
from sparsight.ops.still import still_positions, still_segments
from tests.systems.conftest import make_map, make_rows

REQUEST = Request("", torch.zeros(0, 4))


def film(x: Tensor, importance: Tensor | None = None) -> VisualTokens:
    """Frames (T, N, C) with the attention (T, N) each patch receives."""
    importance = torch.rand(x.shape[:2]) if importance is None else importance
    return make_rows(x, received_attention=importance[..., None])


def knobs_of(case: dict[str, Tensor]) -> dict:
    return {
        "keep": float(case["p_retain_ratio"]),
        "tau": float(case["p_tau"]),
        "beta": float(case["p_beta"]),
        "contextual": float(case["p_D"]),
        "neighbours": int(case["p_K"]),
        "longest": int(case["p_max_window"]),
        "plain_mean": bool(case["p_plain_mean"]),
        "order": "place" if case["p_newline_grid"] else "segment",
    }


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_film_is_cut_into_the_official_segments(golden, name: str) -> None:
    case = golden("11-holitom", name)
    x = case["in_features"]
    cosine = functional.cosine_similarity(x[1:], x[:-1], dim=-1)
    torch.testing.assert_close(cosine, case["out_adjacent_cosine"], atol=1e-5, rtol=0)
    alike = cosine > float(case["p_tau"])
    found = still_segments(alike, int(case["p_max_window"]))
    assert torch.tensor(found.borders).equal(case["out_segments"])
    assert found.saved == float(case["out_total_reduced"])
    masks = torch.stack([still_positions(alike, segment) for segment in found.borders])
    assert torch.equal(masks, case["out_static_mask"])


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_film_becomes_the_official_tokens_in_their_order(golden, name: str) -> None:
    case = golden("11-holitom", name)
    tokens = film(case["in_features"], case["in_importance"])
    kept = build("holitom", knobs_of(case)).reduce(tokens, REQUEST)
    expected = case["out_tokens"]
    if "in_newline" in case:  # the reference ends rows with newlines; here the family does
        expected = expected[~(expected == case["in_newline"]).all(1)]
    torch.testing.assert_close(kept.embeds, expected, atol=1e-5, rtol=0)
    assert kept.index.diff().gt(0).all()


def test_centres_and_what_is_merged_into_them_are_the_official_ones(golden) -> None:
    case = golden("11-holitom", "d")
    x, count = case["in_x"], int(case["p_clusters"])
    distance = distances(x) / x.shape[-1] ** 0.5
    torch.testing.assert_close(distance, case["out_distance"], atol=1e-3, rtol=0)
    found = dpc_knn(x, count, min(int(case["p_K"]), count))
    assert torch.equal(found.centre, case["out_center_index_by_score"])
    centre, order = found.centre.sort(dim=1)
    assert torch.equal(centre, case["out_center_index"])
    label = order.argsort(dim=1).gather(1, found.label)
    assert torch.equal(label, case["out_assignment"])
    merged = merge_into_centres(x, centre, label, float(case["p_beta"]))
    torch.testing.assert_close(merged, case["out_merged"], atol=1e-5, rtol=0)


def test_the_merge_inside_the_llm_is_the_official_one(golden) -> None:
    case = golden("11-holitom", "c")
    hidden = case["in_hidden"]
    visual = torch.zeros(hidden.shape[:2], dtype=torch.bool)
    start, count = int(case["p_start"]), int(case["p_n_visual"])
    visual[:, start : start + count] = True
    knobs = {"layer": 2, "inner": float(case["p_R"])}
    (edit,) = build("holitom", knobs).edits(depth=4)
    layout = Layout.of(torch.ones(hidden.shape[:2]), visual)
    made = edit.edit(hidden, layout, case["in_attention"][:, :, -1:].mean(1))
    kept = made.keep[0].nonzero()[:, 0]
    assert torch.equal(kept[None], case["out_position_ids"])
    assert made.positions == "keep"
    assert torch.equal(kept[visual[0, kept]], case["out_kept_visual_index"])
    torch.testing.assert_close(made.hidden[:, kept], case["out_hidden"], atol=1e-5, rtol=0)


def test_a_film_that_stands_still_is_one_frame() -> None:
    x = torch.randn(1, 10, 8).expand(4, -1, -1)
    kept = build("holitom", {"keep": 0.25, "inner": 0.0}).reduce(film(x), REQUEST)
    assert kept.index.tolist() == list(range(10))
    torch.testing.assert_close(kept.embeds, x[0])
    assert kept.weight.tolist() == [4.0] * 10
    few = build("holitom", {"keep": 0.1}).reduce(film(x), REQUEST)
    assert len(few) == 4
    assert few.weight.sum() == 40


def test_frames_that_all_differ_keep_the_most_attended_of_each() -> None:
    torch.manual_seed(0)
    importance = torch.rand(3, 10)
    kept = build("holitom", {"keep": 0.3}).reduce(film(torch.randn(3, 10, 64), importance), REQUEST)
    best = importance.topk(3).indices.sort(1).values + torch.tensor([[0], [10], [20]])
    assert torch.equal(kept.index, best.flatten())


def test_a_moving_patch_keeps_more_tokens_than_a_still_one() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 12, 32).repeat(6, 1, 1)
    x[:, 5] = torch.randn(6, 32)
    importance = torch.full((6, 12), 0.5)
    importance[:, 5] = 1.0
    kept = build("holitom", {"keep": 0.2}).reduce(film(x, importance), REQUEST)
    patch = kept.box[:, 0].mul(12).round().long()
    assert patch.bincount(minlength=12)[5] == 6
    assert patch.bincount(minlength=12).sum() - 6 <= 11


def test_what_stood_still_comes_first_in_its_segment_unless_all_stay_in_place() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 32).repeat(3, 1, 1)
    x[:, [0, 2]] = torch.randn(3, 2, 32)
    for order, patches in (("segment", [1, 3, 4, 5, 0, 2]), ("place", [0, 1, 2, 3, 4, 5])):
        kept = build("holitom", {"keep": 1.0, "order": order}).reduce(film(x), REQUEST)
        assert kept.box[:6, 0].mul(6).round().long().tolist() == patches
        assert kept.index.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 12, 14]


def test_separators_stay_where_they_are() -> None:
    torch.manual_seed(0)
    x, newline = torch.randn(2, 2, 4, 8), torch.zeros(8)
    item = make_map(x, received_attention=torch.rand(2, 2, 4, 1))

    def lines(x: Tensor, newline: Tensor) -> Tensor:
        return torch.cat([x, newline.expand(*x.shape[:2], 1, -1)], 2).flatten(0, 2)

    kept = build("holitom", {"keep": 0.25}).reduce(pack(item, lines, newline), REQUEST)
    assert kept.index[~kept.prunable].tolist() == [4, 9, 14, 19]


def test_keeping_everything_changes_nothing() -> None:
    x = torch.randn(1, 6, 8).expand(3, -1, -1)
    kept = build("holitom", {"keep": 1.0, "tau": 1.0}).reduce(film(x), REQUEST)
    assert torch.equal(kept.embeds, x.flatten(0, 1))


def test_a_layer_beyond_the_last_is_refused_unless_nothing_is_merged_there() -> None:
    with pytest.raises(UserError, match="within 1 to 3"):
        build("holitom", {"layer": 4}).edits(depth=4)
    assert build("holitom", {"layer": 4, "inner": 0.0}).edits(depth=4) == []
