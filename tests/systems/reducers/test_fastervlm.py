from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import feature_map, pack
from tests.systems.conftest import make_map, make_views

REQUEST = Request("", torch.zeros(0, 4))


def project(x: Tensor, case: dict[str, Tensor]) -> Tensor:
    hidden = functional.gelu(functional.linear(x, case["in_w1"], case["in_b1"]))
    return functional.linear(hidden, case["in_w2"], case["in_b2"])


def faster(case: dict[str, Tensor]):
    return build("fastervlm", {"keep": int(case["p_T"])})


def test_two_pictures_keep_the_official_tokens(golden) -> None:
    case = golden("49-fastervlm", "a")
    for picture in range(2):
        features = project(case["in_features"], case)[picture].view(1, 12, 12, -1)
        attention = case["in_cls_attention"][picture].mT.reshape(1, 12, 12, -1)
        tokens = pack(make_map(features, cls_attention=attention), lambda x, _: x.flatten(0, 2))
        kept = faster(case).reduce(tokens, REQUEST)
        assert torch.equal(kept.index, case["out_kept_index"][picture])
        torch.testing.assert_close(kept.embeds, case["out_tokens"][picture], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            kept.score, case["out_score"][picture][kept.index], atol=1e-6, rtol=0
        )
        mask = torch.zeros(144, dtype=torch.bool)
        mask[kept.index] = True
        assert torch.equal(mask, case["out_mask"][picture])


def test_the_feature_layer_and_the_attention_are_of_the_same_block(golden) -> None:
    case = golden("49-fastervlm", "b")
    # hidden_states has one entry more than attentions: -2 is the output of block -2 in both.
    features = project(case["in_hidden_states"][-2][:, 1:], case).view(1, 6, 6, -1)
    attention = case["in_attentions"][-2][:, :, 0, 1:].mT.reshape(1, 6, 6, -1)
    tokens = pack(make_map(features, cls_attention=attention), lambda x, _: x.flatten(0, 2))
    kept = faster(case).reduce(tokens, REQUEST)
    torch.testing.assert_close(kept.embeds[None], case["out_tokens"], atol=1e-5, rtol=0)
    assert torch.equal(kept.index, case["out_mask"][0].nonzero()[:, 0])


def test_any_res_partitions_keep_the_same_count_each_in_stitched_order(golden) -> None:
    case = golden("49-fastervlm", "c")
    side, wide, high = int(case["p_side"]), *case["p_grid_wh"].tolist()
    features = project(case["in_features"], case).view(5, side, side, -1)
    attention = case["in_cls_attention"].mT.reshape(5, side, side, -1)

    def spatial(x: Tensor, _: Tensor | None) -> Tensor:
        """The reference's "spatial" merge: base first, then the stitched map, no newlines."""
        stitched = x[1:].view(high, wide, side, side, -1).transpose(1, 2).flatten(0, 3)
        return torch.cat([x[0].flatten(0, 1), stitched.reshape(-1, x.shape[-1])])

    views = make_views(5, (side, side), "tile")
    tokens = pack(feature_map(features, views, {"cls_attention": attention}), spatial)
    kept = faster(case).reduce(tokens, REQUEST)
    assert len(kept) == int(case["out_n_visual"])
    table, ids = case["in_text_embedding"], case["in_input_ids"][0]
    place = int((ids == -200).nonzero())
    embeds = torch.cat([table[ids[:place]], kept.embeds, table[ids[place + 1 :]]])
    torch.testing.assert_close(embeds[None], case["out_inputs_embeds"], atol=1e-5, rtol=0)


def test_keeping_everything_changes_nothing() -> None:
    features = torch.randn(2, 3, 3, 4)
    tokens = pack(
        make_map(features, cls_attention=torch.rand(2, 3, 3, 2)), lambda x, _: x.flatten(0, 2)
    )
    kept = build("fastervlm", {"keep": 1.0}).reduce(tokens, REQUEST)
    assert torch.equal(kept.embeds, tokens.embeds)


def test_every_view_keeps_the_same_count() -> None:
    features = torch.randn(3, 4, 4, 4)
    attention = torch.rand(3, 4, 4, 2)
    attention[0] += 10  # one view outshines the others, and still gets no more than its share
    tokens = pack(make_map(features, cls_attention=attention), lambda x, _: x.flatten(0, 2))
    kept = build("fastervlm", {"keep": 5}).reduce(tokens, REQUEST)
    assert kept.view.bincount().tolist() == [5, 5, 5]


def test_separators_stay() -> None:
    features = torch.randn(1, 4, 4, 4)

    def with_newlines(x: Tensor, newline: Tensor | None) -> Tensor:
        assert newline is not None
        column = newline.expand(4, 1, -1)
        return torch.cat([x[0], column], 1).flatten(0, 1)

    tokens = pack(
        make_map(features, cls_attention=torch.rand(1, 4, 4, 2)), with_newlines, torch.zeros(4)
    )
    kept = build("fastervlm", {"keep": 3}).reduce(tokens, REQUEST)
    assert int((~kept.prunable).sum()) == 4
    assert len(kept) == 7
