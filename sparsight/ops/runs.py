"""Neighbouring tokens of a sequence in groups. Shapes: B rows, L tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def groups_in_runs(mask: Tensor, medium: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut each run of neighbouring tokens into groups of `size`; the last of a run may be smaller.

    Args:
        mask: (B, L) bool, the tokens that are grouped.
        medium: (B, L) long; a run ends where it changes.

    Returns the group of each token (B, L) long, from 0 in every row and -1 for no group, and a
    (B, L) mask of the middle member of each group, the earlier one of two.
    """
    place = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    begins = mask.clone()
    begins[:, 1:] &= ~mask[:, :-1] | (medium[:, 1:] != medium[:, :-1])
    start = place.masked_fill(~begins, 0).cummax(1).values
    first = mask & ((place - start) % size == 0)
    group = (first.cumsum(1) - 1).masked_fill(~mask, -1)
    total = torch.zeros_like(place).scatter_add(1, group.clamp_min(0), mask.long())
    head = place.masked_fill(~first, 0).cummax(1).values
    offset = (total.gather(1, group.clamp_min(0)) - 1) // 2
    return group, mask & (place == head + offset)
