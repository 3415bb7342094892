"""Choosing tokens that differ from one another, greedily.

Each choice depends on those before, so `count` rounds are unavoidable; a round is a few operations
on rows of N. Nothing is read back to Python. Shapes: B batch, N tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_NEARLY = 1e-6  # distances of float32 cosines that differ less than this are equal


def cosine_distance(x: Tensor) -> Tensor:
    """1 - cosine of all pairs of (B, N, C) tokens: (B, N, N) float32."""
    unit = functional.normalize(x.float(), dim=-1)
    return 1 - unit @ unit.transpose(1, 2)


def max_min(distance: Tensor, count: int) -> Tensor:
    """Greedy max-min choice: each token is the one farthest from its nearest chosen one.

    Args:
        distance: (B, N, N), entry [b, i, j] how far token j is from i; tokens j may be weighted.
        count: tokens to choose, at most N.

    Returns (B, count) indices in the order of choosing. The first is the token farthest from its
    nearest neighbour; two that are each other's nearest tie there, and the lower index wins, as it
    does in all ties. No token is chosen twice. A copy of the distances is held meanwhile.
    """
    batch, size, _ = distance.shape
    if size == 1 or count == 0:
        return torch.zeros(batch, count, dtype=torch.long, device=distance.device)
    distance = distance.clone()
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    lonely = distance.amin(1)
    distance.diagonal(dim1=1, dim2=2).fill_(-torch.inf)  # what is chosen is never far again
    rows = torch.arange(batch, device=distance.device)
    order = [(lonely >= lonely.amax(-1, keepdim=True) - _NEARLY).int().argmax(-1)]
    nearest = distance[rows, order[0]]
    for _ in range(count - 1):
        order.append(nearest.argmax(-1))
        nearest = torch.minimum(nearest, distance[rows, order[-1]])
    return torch.stack(order[:count], 1)


def thin_out(x: Tensor, count: int, step: int = 8) -> Tensor:
    """Remove tokens that resemble others, `step` at a time, until `count` are left.

    Each round compares the tokens at even places of what is left with those at odd places, and
    removes the even ones whose best cosine is highest; at most half of what is left goes.

    Args:
        x: (B, N, C); the order matters.
        count: tokens to leave, at least 1.

    Returns (B, count) places in `x`, in the order in which the rounds left them: after each round
    the even ones, the most similar first, then the odd ones.
    """
    batch, size, _ = x.shape
    unit = functional.normalize(x.float(), dim=-1)
    alike = unit @ unit.transpose(1, 2)
    rows = torch.arange(batch, device=x.device)[:, None, None]
    left = torch.arange(size, device=x.device).expand(batch, size)
    while left.shape[1] > count:
        removed = min(step, left.shape[1] - count, left.shape[1] // 2)
        even, odd = left[:, ::2], left[:, 1::2]
        best = alike[rows, even[:, :, None], odd[:, None]].amax(-1)
        order = best.argsort(dim=1, descending=True, stable=True)
        left = torch.cat([even.gather(1, order[:, removed:]), odd], 1)
    return left


_EXHAUSTED = 1e-5  # share of a token that float32 can still tell from the span of chosen ones


def largest_determinant(kernel: Tensor, count: int) -> Tensor:
    """Greedy choice under a determinantal point process: each token is the one that makes the
    determinant of the chosen kernel largest.

    Args:
        kernel: (B, N, N), symmetric, positive semi-definite.
        count: tokens to choose, at most N.

    Returns (B, count) indices in the order of choosing; ties go to the lower index. Tokens that lie
    in the span of the chosen ones (there are no others beyond the kernel's rank) come last, by
    their own entry.
    """
    batch, size, _ = kernel.shape
    rows = torch.arange(batch, device=kernel.device)
    own = kernel.diagonal(dim1=1, dim2=2)
    left = own.clone()  # the squared length of each token outside the span of the chosen ones
    basis = kernel.new_zeros(batch, count, size)
    order: list[Tensor] = []
    for step in range(count):
        spanned = left <= _EXHAUSTED * own
        gain = torch.where(spanned & (left > -torch.inf), _EXHAUSTED**2 * own, left)
        pick = gain.argmax(-1)
        order.append(pick)
        known = basis[:, :step]
        row = kernel[rows, pick] - (known[rows, :, pick][:, None] @ known)[:, 0]
        length = left[rows, pick].clamp_min(torch.finfo(kernel.dtype).tiny).sqrt()
        axis = row / length[:, None] * ~spanned[rows, pick][:, None]
        basis[:, step] = axis
        left = left - axis.square()
        left[rows, pick] = -torch.inf
    return torch.stack(order, 1)
