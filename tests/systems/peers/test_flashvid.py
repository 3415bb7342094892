from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from sparsight.llm.layout import Layout
from tests.systems.conftest import make_map

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(features: Tensor, attention: Tensor | None = None) -> VisualTokens:
    """(T, N, C) features, (T, N) attention."""
    given = torch.ones(features.shape[:2]) if attention is None else attention
    signals = {"received_attention": given[:, None, :, None]}
    return pack(make_map(features[:, None], **signals), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_come_out(golden, name: str) -> None:
    case = golden("flashvid", name)
    knobs = {
        "keep": float(case["p_retention_ratio"]),
        "alpha": float(case["p_alpha"]),
        "expansion": float(case["p_expansion"]),
        "link": float(case["p_temporal_threshold"]),
        "cut": float(case["p_segment_threshold"]) if bool(case["p_do_segment"]) else -1.0,
        "segments": int(case["p_min_segments"]) if bool(case["p_do_segment"]) else 1,
        "compat": True,
    }
    kept = build("flashvid", knobs).reduce(
        tokens_of(case["in_features"], case["in_attention"]), REQUEST
    )
    assert len(kept) == len(case["out_tokens"])
    official = case["out_global_index"]
    # In case a one frame has one cluster, whose centre is arbitrary, though its mean is not.
    elsewhere = ~torch.isin(kept.index, official)
    assert int(elsewhere.sum()) == (1 if name == "a" else 0)
    distance = (kept.embeds[:, None] - case["out_tokens"]).abs().amax(-1)
    assert distance.amin(0).max() < 1e-5
    assert distance.amin(1).max() < 1e-5
    nearest = official[distance.argmin(1)]
    assert torch.equal(kept.index[~elsewhere], nearest[~elsewhere])


def test_the_official_tokens_stay_inside_the_llm(golden) -> None:
    case = golden("flashvid", "c")
    hidden, start = case["in_hidden"], int(case["p_start"])
    visual = torch.zeros(hidden.shape[:2], dtype=torch.bool)
    visual[:, start : start + int(case["p_n_visual"])] = True
    [edit] = build("flashvid", {"inside": float(case["p_llm_retention_ratio"])}).edits(28)
    scores = case["in_attention"][:, :, -1:].mean(1)
    made = edit.edit(hidden, Layout.of(torch.ones(visual.shape), visual), scores)
    kept = made.keep[0].nonzero()[:, 0]
    assert torch.equal(hidden[:, kept], case["out_hidden"])
    assert torch.equal(kept[None], case["out_position_ids"])
    assert made.positions == "keep"
    inside = kept[(kept >= start) & (kept < start + int(case["p_n_visual"]))]
    assert torch.isin(inside, case["out_kept_index"]).all()


def still_film(frames: int = 6, size: int = 12) -> Tensor:
    """A film that stands still but for a little noise."""
    torch.manual_seed(3)
    return torch.randn(size, 16).expand(frames, size, 16) + 0.001 * torch.randn(frames, size, 16)


def test_what_stands_still_becomes_one_token_of_its_mean() -> None:
    x = still_film()
    knobs = {"keep": 0.25, "expansion": 1.0, "alpha": 0.3, "segments": 1}
    kept = build("flashvid", knobs).reduce(tokens_of(x), REQUEST)
    assert len(kept) < len(x) * 12 * 0.3
    assert kept.weight.max() > 3
    assert kept.embeds.norm(dim=-1).max() <= x.norm(dim=-1).max() + 1e-3


def test_every_token_is_stood_for_once() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 20, 16)
    kept = build("flashvid", {"keep": 0.4, "segments": 1, "cut": -1.0}).reduce(
        tokens_of(x), REQUEST
    )
    assert kept.weight.sum() == 100


def test_attention_decides_with_diversity() -> None:
    torch.manual_seed(0)
    attention = torch.full((2, 10), 0.01)
    attention[0, 4] = attention[1, 7] = 1.0
    kept = build("flashvid", {"keep": 0.1, "expansion": 1.0, "alpha": 1.0}).reduce(
        tokens_of(torch.randn(2, 10, 16), attention), REQUEST
    )
    assert kept.index.tolist() == [4, 17]


def test_a_cluster_whose_centre_is_taken_stands_beside_it() -> None:
    x = torch.randn(1, 24, 8)
    kept = build("flashvid", {"keep": 0.5, "expansion": 1.0}).reduce(tokens_of(x), REQUEST)
    assert len(kept) == len(kept.index.unique()) == 12


def test_keeping_everything_changes_nothing() -> None:
    tokens = tokens_of(torch.randn(3, 8, 8))
    assert build("flashvid", {"keep": 1.0}).reduce(tokens, REQUEST) is tokens
