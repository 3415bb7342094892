"""Merging tokens into others. Shapes: B batch, N tokens, c centres, C channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def merge_into_centres(x: Tensor, centre: Tensor, label: Tensor, own: float | None) -> Tensor:
    """Merge each centre with the tokens assigned to it, in float32.

    Args:
        x: (B, N, C).
        centre: (B, c) which tokens are centres.
        label: (B, N) long, the centre, counted from 0, that each token goes to.
        own: the centre's share; the mean of its other tokens has the rest. A centre without others
            stays what it is. None: the plain mean of all.

    Returns (B, c, C) merged tokens.
    """
    channels = x.shape[-1]
    index = label[..., None].expand(-1, -1, channels)
    itself = x.gather(1, centre[..., None].expand(-1, -1, channels)).float()
    other = torch.ones(label.shape, device=x.device).scatter(1, centre, 0.0)
    count = torch.zeros(centre.shape, device=x.device).scatter_add(1, label, other)
    total = torch.zeros_like(itself).scatter_add(1, index, x.float() * other[..., None])
    several = (count > 0)[..., None]
    if own is None:
        merged = (total + itself) / (count[..., None] + 1)
    else:
        merged = own * itself + (1 - own) * total / count.clamp_min(1)[..., None]
    return torch.where(several, merged, itself).to(x.dtype)


def merge_by_halves(kept: Tensor, gone: Tensor) -> Tensor:
    """Merge (m, C) tokens, in order, into those of (n, C) most like them: each time a kept token
    becomes the mean of itself and what comes, so later ones weigh more. All at once."""
    unit = functional.normalize(kept.float(), dim=-1)
    target = (functional.normalize(gone.float(), dim=-1) @ unit.mT).argmax(-1)
    order = target.argsort(stable=True)
    count = target.bincount(minlength=len(kept))
    start = count.cumsum(0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start[target[order]]
    weight = 0.5 ** (count[target] - rank)  # of m into one token, the last has a half
    merged = kept.float() * (0.5**count)[:, None]
    return merged.index_add(0, target, gone.float() * weight[:, None]).to(kept.dtype)
