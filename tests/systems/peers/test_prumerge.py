from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from tests.systems.conftest import make_rows

REQUEST = Request("", torch.zeros(0, 8))


def random_tokens(score: Tensor, one_by_one: bool = True) -> VisualTokens:
    """Tokens of views with (V, N) scores, which a projector maps one by one or not."""
    projector = torch.nn.Identity() if one_by_one else None
    torch.manual_seed(0)
    x = torch.randn(*score.shape, 6)
    signals = {"features": x, "keys@last": torch.randn(*score.shape, 8)}
    return make_rows(x, projector, **signals, **{"cls_attention_joined@last": score[..., None]})


def with_outliers(size: int, *outliers: int) -> Tensor:
    score = torch.linspace(0.01, 0.02, size)
    score[list(outliers)] = torch.linspace(1.0, 0.9, len(outliers))
    return score


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_merged_tokens_are_the_official_ones_in_their_order(golden, name: str) -> None:
    case = golden("prumerge", name)
    query, key, hidden = case["in_q_last"], case["in_k_last"], case["in_hidden"]
    attention = (query[:, :1] @ key.mT * key.shape[-1] ** -0.5).softmax(-1)[:, 0, 1:]
    torch.testing.assert_close(attention, case["out_cls_attention"], atol=1e-6, rtol=1e-5)
    tokens = make_rows(
        hidden[:, 1:],
        torch.nn.Identity(),
        features=hidden[:, 1:],
        **{"keys@last": key[:, 1:], "cls_attention_joined@last": attention[..., None]},
    )
    system = build("prumerge", {"plus": bool(case["p_plus"])})
    kept = system.reduce(tokens, REQUEST)
    torch.testing.assert_close(kept.embeds, case["out_tokens"][0], atol=1e-5, rtol=1e-4)
    assert kept.index.diff().gt(0).all()
    count = case["out_kept_index"].shape[1]
    assert torch.equal(kept.score[:count], attention[0, case["out_kept_index"][0]])


def test_each_view_keeps_its_own_outliers_and_one_token_for_the_rest() -> None:
    score = torch.stack([with_outliers(60, 5, 40, 9), with_outliers(60, 31)])
    kept = build("prumerge", {}).reduce(random_tokens(score), REQUEST)
    assert kept.view.bincount().tolist() == [4, 2]
    assert kept.score[:3].tolist() == score[0, [5, 40, 9]].tolist()


def test_a_view_without_outliers_keeps_its_best_patch() -> None:
    kept = build("prumerge", {}).reduce(random_tokens(with_outliers(60)[None]), REQUEST)
    assert kept.score[0] == 0.02
    assert len(kept) == 2


@pytest.mark.parametrize("plus", [False, True])
def test_a_given_budget_is_met_exactly(plus: bool) -> None:
    tokens = random_tokens(torch.rand(2, 60))
    for keep in (1, 2, 7, 59):
        knobs = {"adaptive": False, "plus": plus, "keep": keep}
        kept = build("prumerge", knobs).reduce(tokens, REQUEST)
        assert kept.view.bincount().tolist() == [keep, keep]


def test_many_outliers_make_prumerge_plus_keep_all_but_the_last_patch() -> None:
    score = torch.cat([torch.full((12,), 1.0), torch.linspace(0, 0.01, 48)])[None]
    kept = build("prumerge", {"plus": True}).reduce(random_tokens(score), REQUEST)
    assert len(kept) == 60  # 59 patches and the sum of the one that goes


def test_without_neighbours_patches_stay_as_they_are_and_the_rest_is_summed() -> None:
    tokens = random_tokens(with_outliers(60, 5, 40)[None])
    kept = build("prumerge", {"neighbours": 0}).reduce(tokens, REQUEST)
    assert torch.equal(kept.embeds[:2], tokens.embeds[[5, 40]])
    score = tokens.signals["cls_attention_joined@last"][:, 0].clone()
    score[[5, 40]] = 0
    torch.testing.assert_close(kept.embeds[2], score @ tokens.embeds)


def test_projected_tokens_are_merged_where_the_projector_joins_patches() -> None:
    tokens = random_tokens(with_outliers(60, 5)[None], one_by_one=False)
    kept = build("prumerge", {"neighbours": 1}).reduce(tokens, REQUEST)
    unit = functional.normalize(tokens.signals["keys@last"], dim=-1)
    alike = unit @ unit[5]
    alike[5] = -2
    near = int(alike.argmax())
    score = tokens.signals["cls_attention_joined@last"][near, 0]
    torch.testing.assert_close(kept.embeds[0], tokens.embeds[5] + score * tokens.embeds[near])
