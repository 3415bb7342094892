from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsight.ops.visual_apart import visual_apart

B, H, G, L, A = 3, 4, 2, 12, 8


def example() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows of different lengths: one medium, two media, text alone."""
    q, k, v = torch.randn(B, H, L, A), torch.randn(B, G, L, A), torch.randn(B, G, L, A)
    visual = torch.zeros(B, L, dtype=torch.bool)
    visual[0, 4:9] = True
    visual[1, [1, 2, 5, 6, 7]] = True
    padding = torch.zeros(B, L, dtype=torch.bool)
    padding[0, :2] = True
    padding[2, :3] = True
    return q, k, v, visual, padding


def simulated(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visual: Tensor,
    padding: Tensor,
    heads: Tensor,
    renormalise: bool,
    alone: bool,
) -> Tensor:
    """The whole attention map, with everything cut out of it."""
    k, v = k.repeat_interleave(H // G, 1), v.repeat_interleave(H // G, 1)
    seen = torch.ones(L, L).tril().bool() & ~padding[:, None]
    pairs = visual[:, :, None] & visual[:, None]
    if alone:
        seen = seen & (~pairs | torch.eye(L, dtype=torch.bool))
    seen = (seen | torch.eye(L, dtype=torch.bool))[:, None].expand(B, H, L, L)
    blind = (~visual[:, :, None] & visual[:, None])[:, None] & ~heads[:, None, None]
    if renormalise:
        seen = seen & ~blind
    weight = (q @ k.transpose(2, 3) * A**-0.5).masked_fill(~seen, -torch.inf).softmax(-1)
    out = (weight * ~blind) @ v
    out = torch.where(visual[:, None, :, None], out * heads[:, None, None], out)
    return out.masked_fill(padding[:, None, :, None], 0.0).transpose(1, 2)


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("blind", [[], [1, 2]])
def test_it_equals_the_whole_map_with_everything_cut_out(blind, renormalise: bool) -> None:
    q, k, v, visual, padding = example()
    heads = torch.ones(H, dtype=torch.bool)
    heads[blind] = False
    got = visual_apart(q, k, v, visual, padding, heads, A**-0.5, renormalise)
    torch.testing.assert_close(
        got, simulated(q, k, v, visual, padding, heads, renormalise, alone=True)
    )


@pytest.mark.parametrize("renormalise", [True, False])
def test_visual_tokens_may_see_one_another_and_heads_still_be_blind(renormalise: bool) -> None:
    q, k, v, visual, padding = example()
    heads = torch.tensor([True, False, True, False])
    whole = torch.ones(H, dtype=torch.bool)
    among = simulated(q, k, v, visual, padding, whole, True, alone=False)
    got = visual_apart(q, k, v, visual, padding, heads, A**-0.5, renormalise, among)
    torch.testing.assert_close(
        got, simulated(q, k, v, visual, padding, heads, renormalise, alone=False)
    )


def test_a_visual_token_does_not_move_another() -> None:
    q, k, v, visual, padding = example()
    heads = torch.ones(H, dtype=torch.bool)
    before = visual_apart(q, k, v, visual, padding, heads, 1.0)
    k[0, :, 5], v[0, :, 5] = 3.0, 7.0
    after = visual_apart(q, k, v, visual, padding, heads, 1.0)
    moved = (before != after).any(-1).any(-1)[0]
    assert moved.nonzero()[:, 0].tolist() == [5, 9, 10, 11]
