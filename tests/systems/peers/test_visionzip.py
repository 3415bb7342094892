from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from tests.systems.conftest import make_rows

REQUEST = Request("", torch.zeros(0, 8))


def random_tokens(views: int = 2, size: int = 12, projector=None) -> VisualTokens:
    torch.manual_seed(0)
    features = torch.randn(views, size, 6)
    return make_rows(
        features,
        projector,
        features=features,
        cls_attention=torch.rand(views, size, 2),
        received_attention=torch.rand(views, size, 2),
        keys=torch.randn(views, size, 8),
        cls_feature=torch.full((views, size, 6), 7.0),
    )


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_tokens_are_the_official_ones_in_their_order(golden, name: str) -> None:
    case = golden("visionzip", name)
    attention = case["in_cls_attention"][:, :, 1:].mT
    heads, hidden = attention.shape[-1], case["in_hidden"]
    tokens = make_rows(
        hidden[:, 1:],
        torch.nn.Identity(),
        features=hidden[:, 1:],
        cls_attention=attention,
        keys=case["in_key_metric"][:, 1:].repeat(1, 1, heads),
        cls_feature=hidden[:, :1].expand(-1, hidden.shape[1] - 1, -1),
    )
    contextual, count = int(case["p_contextual"]), case["out_tokens"].shape[1]
    system = build("visionzip", {"keep": count, "contextual": contextual / count})
    kept = system.reduce(tokens, REQUEST)
    assert kept.index.diff().gt(0).all()
    got = kept.embeds.view(case["out_tokens"].shape)
    torch.testing.assert_close(got, case["out_tokens"], atol=1e-5, rtol=0)
    assert kept.score is not None
    dominant = case["out_dominant_index"][:, 1:] - 1  # CLS aside
    expected = case["out_score"].gather(1, dominant)
    got = kept.score.view(len(hidden), count)[:, 1 : count - contextual]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_no_source_token_is_lost_from_the_weights_but_the_one_that_cls_replaces() -> None:
    tokens = random_tokens(projector=torch.nn.Identity())
    kept = build("visionzip", {"keep": 6, "contextual": 0.5}).reduce(tokens, REQUEST)
    assert kept.embeds[[0, 6]].eq(7).all()
    weight = kept.weight.view(2, 6)
    assert weight[:, 0].eq(1).all()
    assert weight[:, 1:].sum(1).eq(12).all()


def test_projected_tokens_are_merged_where_the_projector_joins_patches() -> None:
    tokens = random_tokens()
    kept = build("visionzip", {"keep": 6, "contextual": 0.5}).reduce(tokens, REQUEST)
    assert kept.weight.view(2, 6).sum(1).eq(12).all()
    order = tokens.signals["cls_attention"].sum(-1).view(2, 12).argsort(1, descending=True)
    dominant = order[:, :3].sort(1).values
    expected = tokens.embeds.view(2, 12, 6).gather(1, dominant[..., None].expand(-1, -1, 6))
    assert torch.equal(kept.embeds.view(2, 6, 6)[:, :3], expected)


def test_a_tower_without_cls_is_ranked_by_the_attention_received() -> None:
    tokens = random_tokens(projector=torch.nn.Identity())
    signals = {n: v for n, v in tokens.signals.items() if not n.startswith("cls")}
    system = build("visionzip", {"keep": 4, "score": "received", "contextual": 0.0})
    kept = system.reduce(replace(tokens, signals=signals), REQUEST)
    best = tokens.signals["received_attention"].sum(-1).view(2, 12).topk(4).indices.sort(1).values
    assert kept.index.tolist() == [*best[0].tolist(), *(best[1] + 12).tolist()]


def test_a_view_that_the_budget_covers_stays_as_it_is() -> None:
    tokens = random_tokens(projector=torch.nn.Identity())
    for keep in (12, 1.0):
        kept = build("visionzip", {"keep": keep}).reduce(tokens, REQUEST)
        assert torch.equal(kept.embeds, tokens.embeds)


def test_one_token_of_a_view_can_stay() -> None:
    tokens = random_tokens(projector=torch.nn.Identity())
    assert len(build("visionzip", {"keep": 1}).reduce(tokens, REQUEST)) == 2


def test_the_tokens_given_are_not_changed() -> None:
    tokens = random_tokens(projector=torch.nn.Identity())
    before = tokens.embeds.clone()
    build("visionzip", {"keep": 4}).reduce(tokens, REQUEST)
    assert torch.equal(tokens.embeds, before)
