"""The tokens of a film, frame by frame. Shapes: N tokens, T frames, P positions in a frame."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def frame_table(view: Tensor, box: Tensor) -> Tensor:
    """Which token stands at each position of each frame: (T, P) long, -1 where none does.

    Args:
        view: (N,) the frame of each token, frame after frame.
        box: (N, 4) x0 y0 x1 y1 areas; where frames hold different numbers of tokens, those with
            the same centre stand at the same position.
    """
    _, sizes = view.unique_consecutive(return_counts=True)
    if len(sizes) == 0:
        return view.new_zeros(0, 0)
    if bool((sizes == sizes[0]).all()):
        return torch.arange(len(view), device=view.device).view(len(sizes), -1)
    # Rounded: areas of one position differ in the last bits after pooling and stitching.
    centre = ((box[:, :2] + box[:, 2:]) * 5e3).round().flip(1)  # rows first: raster order
    _, position = centre.unique(dim=0, return_inverse=True)
    frame = torch.arange(len(sizes), device=view.device).repeat_interleave(sizes)
    table = view.new_full((len(sizes), int(position.max()) + 1), -1)
    table[frame, position] = torch.arange(len(view), device=view.device)
    return table


def filled_forward(table: Tensor) -> Tensor:
    """A (T, P) table whose empty cells hold the token of the nearest earlier frame that has one.

    At the beginning, where there is none, they hold that of the first frame that has one.
    """
    order = torch.arange(len(table), device=table.device)[:, None].expand_as(table)
    latest = order.masked_fill(table < 0, -1).cummax(0).values
    first = (table >= 0).int().argmax(0)
    return table.gather(0, torch.where(latest < 0, first, latest))


def cosine_to_previous(x: Tensor) -> Tensor:
    """Cosine of each token to that at its position in the frame before: (T, P, C) -> (T-1, P)."""
    x = x.float()
    return functional.cosine_similarity(x[1:], x[:-1], dim=-1)
