"""Selecting tokens: indices in spatial order, ties broken towards the lower index."""

from __future__ import annotations

import torch
from torch import Tensor


def top(scores: Tensor, count: int) -> Tensor:
    """The indices of the `count` highest of (N,) scores, ascending; ties go to the lower index."""
    order = scores.argsort(descending=True, stable=True)
    return order[:count].sort().values


def even(total: int, count: int) -> Tensor:
    """`count` indices at equal stride over `total`, first and last included, rounded half to even.

    In float64: a float32 line loses whole tokens beyond 2**24. One index is 0.
    """
    if count == 1:
        return torch.zeros(1, dtype=torch.long)
    return torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()


def ranked_per_group(scores: Tensor, group: Tensor, quota: Tensor) -> Tensor:
    """The highest-scoring members of each group, group after group, the best of each first.

    Args:
        scores: (N,).
        group: (N,) long from 0.
        quota: (G,) how many of each group stay at most.

    Ties go to the lower index.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    sizes = group.bincount(minlength=len(quota))
    start = sizes.cumsum(0) - sizes
    rank = torch.arange(len(order), device=scores.device) - start[group[order]]
    return order[rank < quota[group[order]]]


def top_per_group(scores: Tensor, group: Tensor, quota: Tensor) -> Tensor:
    """As `ranked_per_group`, but as ascending indices."""
    return ranked_per_group(scores, group, quota).sort().values
