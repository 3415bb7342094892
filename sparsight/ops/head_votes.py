"""Which attention heads look at visual tokens, by the vote of calibration samples."""

from __future__ import annotations

import torch
from torch import Tensor


def looking_heads(
    visual: Tensor, rest: Tensor, threshold: float, votes: int, whole: int = 2
) -> Tensor:
    """The heads whose attention goes to visual tokens often enough, (layers, heads) bool.

    Args:
        visual: (layers, samples, heads) attention summed over visual tokens.
        rest: the same over the other tokens: the text before and behind.
        threshold: a sample votes for a head if visual / rest is above this.
        votes: a head looks if more samples than this vote for it.
        whole: the first layers, all of whose heads look.
    """
    found = (visual / rest > threshold).sum(1) > votes
    found[:whole] = True
    return found


def as_pairs(looking: Tensor) -> tuple[int, ...]:
    """The heads of (layers, heads) that do not look, as layer, head, layer, head, ..."""
    return tuple((~looking).nonzero().flatten().tolist())


def from_pairs(pairs: tuple[int, ...], layers: int, heads: int) -> Tensor:
    """(layers, heads) bool, true but for the `pairs` of layer and head."""
    looking = torch.ones(layers, heads, dtype=torch.bool)
    blind = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    looking[blind[:, 0], blind[:, 1]] = False
    return looking
