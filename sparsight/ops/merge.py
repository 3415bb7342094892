"""Merging tokens: bipartite soft matching (ToMe, arXiv:2210.09461).

Shapes: V views, N tokens, a metric width, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matching:
    """Where each of N tokens goes: `target` (V, N) into `count` output tokens."""

    target: Tensor
    count: int

    def average(self, x: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Size-weighted mean: x (V, N, C), size (V, N) -> (V, count, C), (V, count)."""
        views, _, channels = x.shape
        weighted = x * size[..., None].to(x.dtype)
        index = self.target[..., None].expand(-1, -1, channels)
        total = torch.zeros(views, self.count, channels, dtype=x.dtype, device=x.device)
        total = total.scatter_add(1, index, weighted)
        sizes = torch.zeros(views, self.count, dtype=size.dtype, device=size.device)
        sizes = sizes.scatter_add(1, self.target, size)
        return total / sizes[..., None].to(x.dtype), sizes


def bipartite_matching(metric: Tensor, r: int, protected: int = 0) -> Matching | None:
    """Match the r most similar pairs between even and odd tokens.

    Args:
        metric: (V, N, a), e.g. keys averaged over the heads.
        r: tokens to remove; at most half of those that are not protected go.
        protected: leading tokens that are never merged (1 for CLS, 2 with a distillation token).

    Returns the matching (output order: unmerged even tokens, then all odd ones, the protected
    distillation token after CLS), or None where nothing is to be merged.

    Even tokens propose to their most similar odd token. Without a protected token the unmerged
    even tokens are left in descending similarity, as the official code does.
    """
    views, count, _ = metric.shape
    r = min(r, (count - protected) // 2)
    if r <= 0:
        return None
    metric = metric / metric.norm(dim=-1, keepdim=True)
    even, odd = metric[:, ::2], metric[:, 1::2]
    scores = even @ odd.transpose(-1, -2)
    if protected >= 1:
        scores[:, 0, :] = float("-inf")
    if protected >= 2:
        scores[:, :, 0] = float("-inf")
    best, partner = scores.max(-1)
    order = best.argsort(dim=-1, descending=True)
    merged, unmerged = order[:, :r], order[:, r:]
    if protected:
        unmerged = unmerged.sort(dim=-1).values
    evens, odds, free = even.shape[1], odd.shape[1], unmerged.shape[1]

    rank = torch.arange(free, device=metric.device).expand(views, free)
    odd_slots = torch.arange(odds, device=metric.device) + free
    if protected >= 2:  # CLS, distillation token, other evens, other odds
        rank = torch.where(rank > 0, rank + 1, rank)
        odd_slots = torch.where(odd_slots == free, 1, odd_slots)
    even_target = torch.empty(views, evens, dtype=torch.long, device=metric.device)
    even_target.scatter_(1, unmerged, rank)
    even_target.scatter_(1, merged, odd_slots[partner.gather(1, merged)])
    target = torch.empty(views, count, dtype=torch.long, device=metric.device)
    target[:, ::2] = even_target
    target[:, 1::2] = odd_slots
    return Matching(target, free + odds)


def merge_schedule(layers: int, r: int | Sequence[int], inflection: float = 0.0) -> list[int]:
    """How many tokens go in each layer.

    A list is padded with zeros. A number r with an inflection of -1 starts at 2r and falls to 0,
    with +1 the reverse, with 0 stays r in every layer; the total is about layers * r.
    """
    if not isinstance(r, int):
        return [*r, *[0] * (layers - len(r))][:layers]
    low = int(r * (1.0 - inflection))
    high = 2 * r - low
    step = (high - low) / (layers - 1) if layers > 1 else 0.0
    return [int(low + step * index) for index in range(layers)]
