from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, feature_map, pack
from tests.systems.conftest import make_rows, make_views

REQUEST = Request("", torch.zeros(0, 4))


def row_of_cls(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """CLS attention (P, N, heads) from queries and keys (P, 1 + N, C)."""
    query, key = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key))
    logits = query[:, :, :1] @ key.mT * query.shape[-1] ** -0.5
    return logits.softmax(-1)[:, :, 0, 1:].mT


def tiled(features: Tensor, grid: tuple[int, int], early: Tensor, late: Tensor) -> VisualTokens:
    """A picture (1 + tiles, side, side, C): the whole view, then its tiles row by row."""
    rows, columns = grid
    side = features.shape[1]
    boxes = [
        (x / columns, y / rows, (x + 1) / columns, (y + 1) / rows)
        for y in range(rows)
        for x in range(columns)
    ]
    views = replace(
        make_views(len(features), (side, side)),
        boxes=torch.tensor([(0.0, 0.0, 1.0, 1.0), *boxes]),
        roles=("thumbnail", *["tile"] * len(boxes)),
    )
    signals = {"cls_attention@0": early, "cls_attention": late}
    signals = {name: value.view(*features.shape[:3], -1) for name, value in signals.items()}
    return pack(feature_map(features, views, signals), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_patches_of_each_partition_stay(golden, name: str) -> None:
    case = golden("25-hired", name)
    heads, side = int(case["p_heads"]), int(case["p_side"])
    early = row_of_cls(case["in_q_first"], case["in_k_first"], heads)
    late = row_of_cls(case["in_q_late"], case["in_k_late"], heads)
    torch.testing.assert_close(early.sum(-1), case["out_score_first"], atol=1e-5, rtol=0)
    torch.testing.assert_close(late.sum(-1), case["out_score_late"], atol=1e-5, rtol=0)
    knobs = {"keep": float(case["p_rate"]), "alpha": float(case["p_alpha"]), "strips": True}
    features = case["in_features"].unflatten(1, (side, side))
    start, tile = 0, 0
    for count, grid in zip(
        case["p_partitions_per_image"].tolist(),
        case["p_grid_as_returned_hw"].tolist(),
        strict=True,
    ):
        part = slice(start, start + count)
        tokens = tiled(features[part], tuple(grid), early[part], late[part])
        kept = build("hired", knobs).reduce(tokens, REQUEST)
        mask = torch.zeros(count * side * side, dtype=torch.bool)
        mask[kept.index] = True
        assert torch.equal(mask.view(count, -1), case["out_mask"][part])
        budgets = case["out_sub_budgets"][tile : tile + count - 1]
        assert kept.view.bincount().tolist()[1:] == budgets.tolist()
        start, tile = start + count, tile + count - 1


def test_a_single_view_keeps_the_official_patches(golden) -> None:
    case = golden("25-hired", "c")
    late = row_of_cls(case["in_q_late"], case["in_k_late"], int(case["p_heads"]))
    torch.testing.assert_close(late.sum(-1)[0], case["out_score_late"], atol=1e-5, rtol=0)
    signals = {"cls_attention@0": late, "cls_attention": late}
    tokens = make_rows(torch.randn(1, 100, 4), **signals)
    kept = build("hired", {"keep": float(case["p_rate"])}).reduce(tokens, REQUEST)
    assert torch.equal(kept.index, case["out_kept_index"])


def test_the_official_tokens_enter_in_the_order_of_the_stitched_picture(golden) -> None:
    case = golden("25-hired", "a")
    heads, side = int(case["p_heads"]), int(case["p_side"])
    early = row_of_cls(case["in_q_first"], case["in_k_first"], heads)
    late = row_of_cls(case["in_q_late"], case["in_k_late"], heads)
    knobs = {"keep": float(case["p_rate"]), "alpha": float(case["p_alpha"]), "strips": True}
    features = case["in_features"].unflatten(1, (side, side))
    kept = build("hired", knobs).reduce(tiled(features, (2, 2), early, late), REQUEST)
    mask = torch.zeros(5 * side * side, dtype=torch.bool)
    mask[kept.index] = True
    mask = mask.view(5, side, side)

    def stitched(x: Tensor) -> Tensor:
        return x[1:].unflatten(0, (2, 2)).transpose(1, 2).flatten(2, 3).flatten(0, 1)

    height, width = case["p_image_hw"][0].tolist()
    margin = (2 * side - width * 2 * side // height) // 2
    inside = slice(margin, 2 * side - margin)  # the padding of the narrow picture is cut off
    tiles = stitched(features)[:, inside][stitched(mask)[:, inside]]
    expected = torch.cat([features[0][mask[0]], tiles])
    assert torch.equal(expected, case["out_tokens"])


def marked_in(rows: slice, columns: slice) -> Tensor:
    """Early scores (5, 64, 1) of 8 x 8 patches, high on a part of the whole view."""
    score = torch.zeros(5, 8, 8)
    score[0, rows, columns] = 1.0
    return score.view(5, 64, 1)


def kept_per_view(early: Tensor, **knobs) -> list[int]:
    torch.manual_seed(0)
    tokens = tiled(torch.randn(5, 8, 8, 4), (2, 2), early, torch.rand(5, 64, 1))
    kept = build("hired", knobs).reduce(tokens, REQUEST)
    return kept.view.bincount(minlength=5).tolist()


def test_the_tile_under_the_marked_quadrant_gets_the_tiles_part() -> None:
    # A quarter of the whole view is marked at alpha 0.75, all of it in the upper right.
    early = marked_in(slice(0, 4), slice(4, 8))
    assert kept_per_view(early, keep=64, alpha=0.75) == [48, 0, 16, 0, 0]
    # Stripes of the released code see two rows each, of which two have marks.
    assert kept_per_view(early, keep=64, alpha=0.75, strips=True) == [48, 8, 8, 0, 0]


def test_marks_all_over_give_equal_parts() -> None:
    early = torch.ones(5, 64, 1)
    early[0, ::2] = 2.0  # half of every quadrant
    assert kept_per_view(early, keep=64) == [32, 8, 8, 8, 8]


def test_all_the_budget_may_go_to_the_whole_view_or_to_the_tiles() -> None:
    early = torch.rand(5, 64, 1)
    assert kept_per_view(early, keep=40, alpha=1.0) == [40, 0, 0, 0, 0]
    whole, *tiles = kept_per_view(early, keep=40, alpha=0.0)
    assert whole == 0
    assert 40 - len(tiles) < sum(tiles) <= 40


def test_a_tile_gets_no_more_than_it_has() -> None:
    early = marked_in(slice(0, 4), slice(0, 4))
    assert kept_per_view(early, keep=160, alpha=0.75) == [64, 64, 0, 0, 0]


def test_frames_share_the_budget_evenly() -> None:
    late = torch.rand(3, 8, 2)
    late[0] += 9
    tokens = make_rows(torch.randn(3, 8, 4), **{"cls_attention@0": late, "cls_attention": late})
    kept = build("hired", {"keep": 6}).reduce(tokens, REQUEST)
    assert kept.view.bincount().tolist() == [2, 2, 2]
