"""Choosing the best tokens of each row of a batch. Shapes: B rows, L tokens."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sparsight.ops.select import top_per_group


def best_in_rows(scores: Tensor, candidates: Tensor, quota: Tensor) -> Tensor:
    """A (B, L) mask of each row's `quota` (B,) highest-scoring candidates.

    Args:
        scores: (B, L).
        candidates: (B, L) bool, the tokens to choose among; no other is in the mask.
        quota: (B,) long, how many of each row at most.

    Ties go to the lower index.
    """
    row, column = candidates.nonzero(as_tuple=True)
    chosen = top_per_group(scores[row, column], row, quota)
    mask = torch.zeros_like(candidates)
    mask[row[chosen], column[chosen]] = True
    return mask


def share_of(count: Tensor, share: float, rounding: Literal["down", "nearest", "up"]) -> Tensor:
    """That share of each count, (B,) long, as Python would round it: in double precision, .5 to
    even."""
    # Some devices have no double precision.
    exact = (count.cpu() if count.device.type == "mps" else count).double() * share
    whole = {"down": exact.floor, "nearest": exact.round, "up": exact.ceil}[rounding]()
    return whole.long().to(count.device)


def columns_of(mask: Tensor) -> Tensor:
    """The columns that each row of a (B, L) mask names, (B, R) ascending.

    Rows of fewer than the largest count are filled up with columns that the mask does not name.
    R is 1 at least.
    """
    most = max(1, int(mask.sum(1).max()))
    return mask.int().argsort(dim=1, descending=True, stable=True)[:, :most]


def mean_of_first(x: Tensor, count: Tensor) -> Tensor:
    """The mean of the first `count` (B,) of R entries, (B, R, L) -> (B, L); 0 where it is 0."""
    real = torch.arange(x.shape[1], device=x.device) < count[:, None]
    return (x * real[..., None]).sum(1) / count.clamp_min(1)[:, None]


def places_before(kept: Tensor, size: int, more: int) -> Tensor:
    """Places among `size` for `kept` (k,) ascending ones and, behind them, `more` further ones.

    The further ones take the last places; kept ones move towards the front no more than they must.
    Returns (k + more,) ascending; k + more is at most `size`.
    """
    room = torch.arange(size - more - len(kept), size - more, device=kept.device)
    last = torch.arange(size - more, size, device=kept.device)
    return torch.cat([torch.minimum(kept, room), last])
