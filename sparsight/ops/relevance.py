"""Which tokens caused an output: gradient-weighted rollout of attention.

Letters: H heads, S tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def relevance_of_row(maps: Sequence[Tensor], gradients: Sequence[Tensor], row: int) -> Tensor:
    """How much each token is relevant to what stands at `row`, (S,).

    Args:
        maps: attention (H, S, S) of each layer, first to last.
        gradients: of the output by these.

    With M of a layer the mean over heads of relu(map * gradient), this is the row of
    (I + M_last) ... (I + M_first); only the row is computed, from the last layer down.
    """
    relevance = torch.zeros_like(maps[0][0, 0])
    relevance[row] = 1.0
    for attention, gradient in zip(reversed(maps), reversed(gradients), strict=True):
        relevance = relevance + relevance @ (attention * gradient).relu().mean(0)
    return relevance


def relevance_target(relevance: Tensor, masked: float = 0.5) -> Tensor:
    """Relevance (..., N) as a distribution over the tokens, its lowest share set to zero.

    N * masked of them, rounded down, are set to zero; of equals, those behind. Relevance that is
    nowhere above zero is spread evenly over all tokens.
    """
    count = relevance.shape[-1]
    rank = relevance.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    kept = relevance.clamp_min(0).masked_fill(rank >= count - int(count * masked), 0.0)
    total = kept.sum(-1, keepdim=True)
    return torch.where(total > 0, kept / total.clamp_min(1e-30), 1 / count)
