"""Trees of tokens that follow a thing through the frames of a film.

Shapes: T frames, N tokens of a frame, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def token_trees(x: Tensor, free: Tensor, threshold: float, least: int = 0) -> Tensor:
    """Link tokens to the frame before and name each tree by its earliest token: (T, N) long.

    Args:
        x: (T, N, C).
        free: (T, N) bool, the tokens that take part; others are trees of their own.
        threshold: a token joins the most similar free token of the frame before where their
            cosine is above this.
        least: trees there must be at least; the threshold is raised until there are.

    The names are indices into the T * N tokens.
    """
    frames, size, _ = x.shape
    names = torch.arange(frames * size, device=x.device).view(frames, size)
    unit = functional.normalize(x.float(), dim=-1)
    cosine = unit[1:] @ unit[:-1].transpose(1, 2)
    cosine = cosine.masked_fill(~(free[1:, :, None] & free[:-1, None, :]), -1.0)
    likeness, anchor = cosine.max(-1)
    joins = likeness > threshold
    most = frames * size - least
    if int(joins.sum()) > most:
        raised = likeness.flatten().topk(most).values[-1] if most > 0 else torch.inf
        joins = likeness > raised
    roots = [names[0]]
    for frame in range(frames - 1):
        roots.append(torch.where(joins[frame], roots[-1][anchor[frame]], names[frame + 1]))
    return torch.stack(roots)


def tree_means(x: Tensor, trees: Tensor, by_children: bool = False) -> tuple[Tensor, Tensor]:
    """The mean of each tree, at the place of its earliest token, and its size.

    Args:
        x: (T, N, C).
        trees: (T, N) long, as `token_trees` names them.
        by_children: divide a tree's sum by one and the number of tokens that join its earliest
            token directly, not by the number of all its tokens.

    Returns (T, N, C) float32 and (T, N); zeros where no tree begins.
    """
    frames, size, channels = x.shape
    names = trees.flatten()
    total = torch.zeros(frames * size, channels, device=x.device)
    total = total.index_add(0, names, x.flatten(0, 1).float())
    ones = torch.ones(frames * size, device=x.device)
    count = torch.zeros_like(ones).index_add(0, names, ones)
    divisor = count
    if by_children:
        frame = torch.arange(frames * size, device=x.device) // size
        direct = (frame - names // size <= 1).float()
        divisor = torch.zeros_like(ones).index_add(0, names, direct)
    mean = total / divisor.clamp_min(1)[:, None]
    return mean.view_as(x), count.view(frames, size)
