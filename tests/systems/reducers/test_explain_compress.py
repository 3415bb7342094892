from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from sparsight.llm.attention import probe
from sparsight.llm.first_layer import question_attention
from sparsight.llm.layout import Layout
from sparsight.llm.relevance import token_relevance
from sparsight.modules.relevance import RelevancePredictor
from sparsight.ops.select import top
from tests.systems.conftest import make_map, make_views
from tests.systems.inside.planted import ASKED, VOXELS, planted, scene

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(attention: Tensor, role: str = "picture") -> VisualTokens:
    """Tokens of one view with the attention (N,) that the question pays them."""
    features = make_map(torch.randn(1, 1, len(attention), 8))
    features = replace(features, views=make_views(1, (1, len(attention)), role))
    made = pack(features, lambda x, _: x.flatten(0, 2))
    return replace(made, signals={"question_attention": attention[:, None]})


def predictor(path: Path, seed: int = 0) -> RelevancePredictor:
    torch.manual_seed(seed)
    made = RelevancePredictor(channels=(4, 8))
    made.save(path)
    return made.eval()


# ---- the choice ----------------------------------------------------------------------------------


def test_the_most_relevant_tokens_stay_in_order(tmp_path: Path) -> None:
    model, attention = predictor(tmp_path / "p.safetensors"), torch.rand(20)
    system = build("explain-compress", {"keep": 5, "predictor": str(tmp_path / "p.safetensors")})
    kept = system.reduce(tokens_of(attention), REQUEST)
    assert torch.equal(kept.index, top(model(attention[None])[0].detach(), 5))
    assert kept.positions == "renumber"


def test_without_a_predictor_the_attention_itself_ranks() -> None:
    attention = torch.tensor([0.1, 0.5, 0.2, 0.4])
    kept = build("explain-compress", {"keep": 0.5}).reduce(tokens_of(attention), REQUEST)
    assert kept.index.tolist() == [1, 3]


def test_films_may_have_a_predictor_of_their_own(tmp_path: Path) -> None:
    one, two = tmp_path / "p.safetensors", tmp_path / "f.safetensors"
    models = {"picture": predictor(one), "frame": predictor(two, seed=1)}
    system = build("explain-compress", {"keep": 6, "predictor": str(one), "films": str(two)})
    attention = torch.rand(30)
    for role, model in models.items():
        kept = system.reduce(tokens_of(attention, role), REQUEST)
        assert torch.equal(kept.index, top(model(attention[None])[0].detach(), 6))
    plain = build("explain-compress", {"keep": 6, "predictor": str(one), "films": "none"})
    kept = plain.reduce(tokens_of(attention, "frame"), REQUEST)
    assert torch.equal(kept.index, top(attention, 6))


def test_separators_are_not_scored_and_stay() -> None:
    attention = torch.tensor([0.1, 0.5, 0.9, 0.4])
    tokens = tokens_of(attention)
    tokens = replace(tokens, prunable=torch.tensor([True, True, False, True]))
    kept = build("explain-compress", {"keep": 1}).reduce(tokens, REQUEST)
    assert kept.index.tolist() == [1, 2]


def test_a_predictor_written_anew_is_read_anew(tmp_path: Path) -> None:
    path, attention = tmp_path / "p.safetensors", torch.rand(40)
    for seed in range(2):
        model = predictor(path, seed)
        os.utime(path, ns=(seed, seed))
        made = build("explain-compress", {"keep": 8, "predictor": str(path)})
        kept = made.reduce(tokens_of(attention), REQUEST)
        assert torch.equal(kept.index, top(model(attention[None])[0].detach(), 8))


def test_a_missing_predictor_is_named_before_any_work() -> None:
    with pytest.raises(UserError, match=r"there is no predictor nowhere\.safetensors"):
        build("explain-compress", {"predictor": "nowhere.safetensors"})


def test_the_predictor_is_kept_with_the_plan(tmp_path: Path) -> None:
    predictor(tmp_path / "p.safetensors")
    system = build("explain-compress", {"predictor": str(tmp_path / "p.safetensors")})
    plan = Plan(systems=(system,))
    assert Plan.from_yaml(plan.to_yaml()) == plan


# ---- on a model built by hand --------------------------------------------------------------------


def kept_of(scores: Tensor, layout: Layout, share: float = 0.25) -> Tensor:
    """The columns of the voxels that score highest."""
    columns = layout.visual[0].nonzero()[:, 0]
    return columns[top(scores[columns], round(share * VOXELS))]


def answer(model: Any, embeds: Tensor, layout: Layout, kept: Tensor) -> int:
    stays = ~layout.visual[0]
    stays[kept] = True
    places = torch.arange(embeds.shape[1])[stays][None]
    with torch.no_grad():
        out = model(inputs_embeds=embeds[:, stays], position_ids=places)
    return int(out.logits[0, -1].argmax())


def test_explanations_find_at_the_input_what_early_attention_does_not() -> None:
    """The question looks at voxels in the last layer alone: layer 1 ranks them by nothing."""
    model = planted(layers=4, looks=[3])
    right = {"explained": 0, "early": 0}
    for place in range(12):
        embeds, layout, relevant = scene(things=3 + place % 6)
        with torch.no_grad(), probe(model.model, {1: "last"}, "mean") as scores:
            whole = int(model(inputs_embeds=embeds).logits[0, -1].argmax())
        relevance = token_relevance(
            model.model, lambda x: model(inputs_embeds=x).logits, embeds, torch.tensor([whole])
        )
        mine = kept_of(relevance, layout)
        # What spoke for the answer is relevant, what spoke against it is not.
        found = torch.isin(relevant, mine).sum()
        assert found >= (relevance[relevant] > relevance[layout.visual[0]].median()).sum()
        right["explained"] += answer(model, embeds, layout, mine) == whole
        right["early"] += answer(model, embeds, layout, kept_of(scores[1][0, 0], layout)) == whole
    assert right["explained"] == 12
    assert right["early"] < 9


def test_another_question_about_the_same_room_keeps_other_tokens() -> None:
    model = planted(layers=2, looks=[0, 1])
    embeds, layout, relevant = scene(things=10)
    asked = int(embeds[0, -1, ASKED : ASKED + 3].argmax())
    other = embeds.clone()
    other[0, -3:, ASKED : ASKED + 3] = 0.0
    other[0, -3:, ASKED + (asked + 1) % 3] = 1.0
    places = torch.arange(embeds.shape[1])[None]
    kept = []
    for prompt in (embeds, other):
        attention = question_attention(model.model, prompt, places, layout)
        found = build("explain-compress", {"keep": 10}).reduce(
            tokens_of(attention[layout.visual[0]]), REQUEST
        )
        kept.append(set((found.index + 2).tolist()))
    assert kept[0] == set(relevant.tolist())
    assert not kept[0] & kept[1]
