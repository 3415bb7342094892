from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Need
from sparsight.core.tokens import VisualTokens, pack
from sparsight.llm.attention import attention_rows
from sparsight.world.hallucination import pope
from tests.systems.conftest import make_map, make_rows

Golden = Callable[[str, str], dict[str, Tensor]]


def damro(**knobs: Any) -> Any:
    return build("damro", knobs)


def order_of(score: Tensor, k: int) -> list[list[int]]:
    """For each view of scores (V, N) the k best patches, best first."""
    return [sorted(range(len(row)), key=lambda place: -row[place])[:k] for row in score.tolist()]


def outliers(features: Tensor, attention: Tensor, name: str, **knobs: Any) -> VisualTokens:
    """Of features (V, N, C) with a score (V, N)."""
    return damro(**knobs).against(make_rows(features, **{name: attention[..., None]}))


# ---- the released code's numbers ---------------------------------------------------------------


def test_full_width_outliers_are_the_official_ones(golden: Golden) -> None:
    case = golden("53-damro", "a")
    query, key = case["in_q"][:, None], case["in_k"][:, None]
    first = torch.zeros(len(query), 1, dtype=torch.long)
    score = attention_rows(query, key, first, query.shape[-1] ** -0.5)[:, 0, 0, 1:]
    torch.testing.assert_close(score, case["out_score"], atol=1e-6, rtol=0)
    k = int(case["p_k"])
    assert order_of(score, k) == case["out_outlier_index"].tolist()
    found = outliers(case["in_features"], score, "cls_attention_joined", k=k, heads="full-width")
    assert torch.equal(found.embeds.view(2, k, -1), case["out_features"])


def test_the_mean_over_heads_finds_the_official_outliers(golden: Golden) -> None:
    case = golden("53-damro", "b")
    heads = int(case["p_heads"])
    query, key, _ = case["in_qkv"].unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    first = torch.zeros(len(query), 1, dtype=torch.long)
    rows = attention_rows(query, key, first, query.shape[-1] ** -0.5)[:, :, 0, 1:]
    torch.testing.assert_close(rows.mean(1), case["out_score"], atol=1e-6, rtol=0)
    k, features = int(case["p_k"]), case["in_image_embeds"]
    tokens = make_rows(features[:, 1:], cls_attention=rows.mT)
    found = damro(k=k).against(tokens)
    index = case["out_outlier_index"]
    assert torch.equal(found.embeds, features[0, 1 + index[0]])
    # The released code forgets that the sequence begins with CLS, and gathers one too early.
    assert torch.equal(case["out_features"], features[:, index[0]])


def test_the_contrast_is_the_official_one(golden: Golden) -> None:
    case = golden("53-damro", "c")
    system = damro(alpha=float(case["p_alpha"]), beta=float(case["p_beta"]))
    scores = system.decoding(case["in_logits_full"], case["in_logits_outliers"])
    finite = scores.isfinite()
    assert torch.equal(finite, case["out_finite"])
    torch.testing.assert_close(scores[finite], case["out_scores"][finite], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.softmax(-1), case["out_probabilities"], atol=1e-5, rtol=0)


# ---- which tokens stand in the second prompt ---------------------------------------------------


def test_the_best_of_each_view_stand_best_first_in_places_of_that_view() -> None:
    score = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.5, 0.1, 0.1, 0.6]])
    features = torch.arange(8.0).view(2, 4, 1)
    found = outliers(features, score, "cls_attention", k=2)
    assert found.embeds[:, 0].tolist() == [1.0, 3.0, 7.0, 4.0]
    assert found.index.tolist() == [1, 3, 4, 7]
    assert found.positions == "renumber"


def test_equal_scores_go_to_the_lower_index() -> None:
    found = outliers(torch.arange(5.0).view(1, 5, 1), torch.ones(1, 5), "cls_attention", k=3)
    assert found.embeds[:, 0].tolist() == [0.0, 1.0, 2.0]


def test_choosing_behind_the_projector_is_choosing_before_it() -> None:
    features, score = torch.randn(2, 9, 6), torch.rand(2, 9)
    projector = torch.nn.Linear(6, 4)
    found = outliers(projector(features), score, "cls_attention", k=3)
    before = torch.cat(
        [row[order] for row, order in zip(features, order_of(score, 3), strict=True)]
    )
    torch.testing.assert_close(found.embeds, projector(before))


def tiled(roles: tuple[str, ...]) -> VisualTokens:
    """Views of four tokens each, with a newline behind every two."""
    torch.manual_seed(0)
    item = make_map(torch.randn(len(roles), 2, 2, 4), cls_attention=torch.rand(len(roles), 2, 2, 1))
    item = replace(item, views=replace(item.views, roles=roles))

    def lines(x: Tensor, newline: Tensor | None) -> Tensor:
        assert newline is not None
        rows = x.flatten(0, 1)
        return torch.cat([rows, newline.expand(len(rows), 1, -1)], 1).flatten(0, 1)

    return pack(item, lines, torch.zeros(4))


@pytest.mark.parametrize("place", [0, 2])
def test_of_a_tiled_picture_the_thumbnail_and_one_newline_stand_there(place: int) -> None:
    roles = ["tile"] * 3
    roles[place] = "thumbnail"
    found = damro(k=3).against(tiled(tuple(roles)))
    assert found.view.tolist() == [place] * 3 + [-1]
    assert found.embeds[-1].tolist() == [0.0] * 4


def test_of_a_film_every_frame_stands_there() -> None:
    found = damro(k=1).against(tiled(("frame", "frame", "frame")))
    assert found.view.tolist() == [0, 1, 2, -1]


def test_more_outliers_than_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="damro: k=5 is more than the 4 tokens of a view"):
        damro(k=5).against(tiled(("picture",)))


# ---- what it asks of the tower -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "need"),
    [
        ({}, "cls_attention"),
        ({"heads": "full-width"}, "cls_attention_joined"),
        ({"score": "received"}, "received_attention"),
    ],
)
def test_the_tower_is_asked_for_one_row_of_the_features_own_block(
    knobs: dict[str, str], need: str
) -> None:
    assert damro(**knobs).needs() == (Need(need, -1),)


def test_one_wide_head_is_read_from_cls_alone() -> None:
    with pytest.raises(UserError, match="heads=full-width reads CLS"):
        damro(heads="full-width", score="received")


# ---- the claim, on a small scale ---------------------------------------------------------------

PATCHES, OUTLIERS = 24, 4


def scenes(there: Tensor, leaning: Tensor, seed: int) -> Tensor:
    """(B, PATCHES, 4): three patches show whether the object is there, and some of the background
    have a high norm and lean one way."""
    made = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(len(there), PATCHES, 4, generator=made)
    x[:, :3, 0] += 2 * there[:, None] - 1
    x[:, 3 : 3 + OUTLIERS, 1] += 1.5 * (2 * leaning[:, None] - 1)
    x[:, 3 : 3 + OUTLIERS, 2] += 3
    return x


def seen(x: Tensor) -> Tensor:
    """What a reader sees who looks where the norm is high: (B, N, 4) -> (B, 4)."""
    return (x.norm(dim=-1).softmax(-1)[..., None] * x).sum(1)


def test_a_reader_led_astray_by_outliers_says_yes_less_often_where_nothing_is() -> None:
    made = torch.Generator().manual_seed(0)
    there = torch.randint(0, 2, (400,), generator=made).float()
    leaning = torch.where(torch.rand(400, generator=made) < 0.9, there, 1 - there)
    shown = seen(scenes(there, leaning, 1))
    reader = torch.nn.Linear(4, 2)
    learning = torch.optim.Adam(reader.parameters(), lr=0.1)
    for _ in range(150):  # the background gives the answer away, nine times in ten
        learning.zero_grad()
        torch.nn.functional.cross_entropy(reader(shown), there.long()).backward()
        learning.step()

    there = (torch.arange(200) % 2).float()
    x = scenes(there, torch.ones(200), 2)  # now it always says yes
    attention = x.norm(dim=-1).softmax(-1)
    counts = {}
    for alpha in (0.0, 2.0):
        system = damro(k=OUTLIERS, alpha=alpha, beta=1e-6)
        second = system.against(make_rows(x, cls_attention=attention[..., None]))
        with torch.no_grad():
            outliers_alone = seen(second.embeds.view(200, OUTLIERS, 4))
            yes = system.decoding(reader(seen(x)), reader(outliers_alone)).argmax(-1)
        counts[alpha] = pope(
            (("No", "Yes")[said], ("no", "yes")[int(truth)])
            for said, truth in zip(yes.tolist(), there.tolist(), strict=True)
        )
    assert counts[2.0].recall >= counts[0.0].recall > 0.95
    assert counts[2.0].false_yes < counts[0.0].false_yes / 2
