from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens, pack
from sparsight.ops.diversity import cosine_distance, max_min
from tests.systems.conftest import make_map

REQUEST = Request("", torch.zeros(0, 8))


def tokens_of(x: Tensor) -> VisualTokens:
    return pack(make_map(x.view(1, 1, *x.shape)), lambda x, _: x.flatten(0, 2))


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_are_picked_in_the_official_order(golden, name: str) -> None:
    case = golden("divprune", name)
    tokens, count = case["in_tokens"], len(case["out_pick_order"])
    distance = cosine_distance(tokens[None])
    torch.testing.assert_close(distance[0], case["out_distance"], atol=1e-5, rtol=0)
    assert torch.equal(max_min(distance, count)[0], case["out_pick_order"])
    kept = build("divprune", {"keep": float(case["p_ratio"])}).reduce(tokens_of(tokens), REQUEST)
    assert torch.equal(kept.index, case["out_kept_index"])
    assert torch.equal(kept.embeds, tokens[case["out_kept_index"]])


def test_copies_of_a_token_go_first() -> None:
    distinct = torch.eye(8)[:5]
    kept = build("divprune", {"keep": 5}).reduce(
        tokens_of(distinct[[0, 0, 1, 1, 2, 3, 3, 3, 4]]), REQUEST
    )
    assert sorted(kept.embeds.argmax(1).tolist()) == [0, 1, 2, 3, 4]


def test_separators_stay_and_take_no_part() -> None:
    odd_one = torch.full((8,), -9.0)
    tokens = pack(
        make_map(torch.rand(1, 2, 3, 8)),
        lambda x, newline: torch.cat([x.flatten(0, 2), newline[None]]),
        odd_one,
    )
    kept = build("divprune", {"keep": 2}).reduce(tokens, REQUEST)
    assert len(kept) == 3
    assert kept.index[-1] == 6
