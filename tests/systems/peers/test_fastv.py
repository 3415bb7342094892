from __future__ import annotations

import pytest
import torch

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.llm.layout import Layout


def layout_of(case) -> Layout:
    length = case["in_hidden"].shape[1]
    visual = torch.zeros(1, length, dtype=torch.bool)
    start, count = int(case["p_start"]), int(case["p_n_visual"])
    visual[:, start : start + count] = True
    return Layout.of(torch.ones(1, length), visual)


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_stay(golden, name: str) -> None:
    case = golden("fastv", name)
    (edit,) = build("fastv", {"keep": 1 - float(case["p_R"])}).edits(depth=8)
    scores = case["in_attention"][:, :, -1:].mean(1)
    made = edit.edit(case["in_hidden"], layout_of(case), scores)
    assert torch.equal(made.keep[0].nonzero()[:, 0], case["out_kept_index"])
    assert torch.equal(case["in_hidden"][:, made.keep[0]], case["out_hidden"])
    assert made.positions == "keep"
    assert torch.equal(made.keep[0].nonzero()[:, 0][None], case["out_position_ids"])


def test_each_row_of_a_batch_is_ranked_by_its_own_attention() -> None:
    hidden = torch.randn(2, 6, 4)
    visual = torch.tensor([[False, True, True, True, True, False]]).expand(2, 6)
    scores = torch.zeros(2, 1, 6)
    scores[0, 0, 1] = scores[1, 0, 4] = 1.0
    (edit,) = build("fastv", {"keep": 1}).edits(depth=4)
    made = edit.edit(hidden, Layout.of(torch.ones(2, 6), visual), scores)
    assert made.keep.tolist() == [
        [True, True, False, False, False, True],
        [True, False, False, False, True, True],
    ]


def test_a_layer_beyond_the_last_is_refused() -> None:
    with pytest.raises(UserError, match="layer 4 must lie within 1 to 3"):
        build("fastv", {"layer": 4}).edits(depth=4)
