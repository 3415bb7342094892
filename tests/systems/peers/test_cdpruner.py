from __future__ import annotations

import pytest
import torch

from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.ops.diversity import largest_determinant
from sparsight.systems.peers.cdpruner import conditional_kernel, relevance_to
from tests.systems.conftest import make_rows


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_official_tokens_are_picked_in_the_official_order(golden, name: str) -> None:
    case = golden("cdpruner", name)
    relevance = relevance_to(case["in_image_embeds"], case["in_text_embeds"])
    torch.testing.assert_close(relevance, case["out_relevance"], atol=1e-5, rtol=0)
    kernel = conditional_kernel(case["in_projected"], relevance)
    torch.testing.assert_close(kernel, case["out_kernel"], atol=1e-5, rtol=0)
    assert torch.equal(largest_determinant(kernel, int(case["p_T"])), case["out_pick_order"])


def test_the_system_keeps_what_its_kernel_says() -> None:
    torch.manual_seed(0)
    x, text = torch.randn(2, 9, 8), torch.randn(3, 8)
    kept = build("cdpruner", {"keep": 4}).reduce(make_rows(x), Request("?", text))
    order = largest_determinant(conditional_kernel(x, relevance_to(x, text)), 4)
    expected = (order.sort(1).values + torch.tensor([[0], [9]])).flatten()
    assert torch.equal(kept.index, expected)
    assert torch.equal(kept.embeds, x.flatten(0, 1)[expected])


def test_the_question_decides_what_stays_and_inverting_turns_it_round() -> None:
    x = torch.eye(6)[None]
    question = Request("?", torch.eye(6)[[4]] + 0.1 * torch.eye(6)[[2]])
    near = build("cdpruner", {"keep": 1, "inverted": False}).reduce(make_rows(x), question)
    assert near.index.tolist() == [4]
    far = build("cdpruner", {"keep": 5}).reduce(make_rows(x), question)
    assert 4 not in far.index.tolist()


def test_an_empty_question_leaves_diversity_alone() -> None:
    x = torch.randn(1, 8, 4)
    empty = build("cdpruner", {"keep": 3}).reduce(make_rows(x), Request("", torch.zeros(0, 4)))
    alone = build("cdpruner", {"keep": 3, "relevance": False})
    assert torch.equal(empty.index, alone.reduce(make_rows(x), Request("", x[0])).index)
