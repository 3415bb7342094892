"""Bringing feature grids to another size. Shapes: V views, T frames, h w rows and columns."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def coarser_grid(grid: tuple[int, int], count: int) -> tuple[int, int]:
    """The (h', w') not above `grid` with at most `count` cells that keeps its aspect best.

    Of all grids, the one with most cells wins; among equals the one nearest the aspect.
    """
    height, width = grid
    best, best_rank = (1, 1), (0, -math.inf)
    for rows in range(1, height + 1):
        columns = min(width, count // rows)
        if columns < 1:
            break
        aspect = -abs(math.log(rows * width / (columns * height)))
        # Slightly fewer cells in the right shape beat a full count in a thin strip.
        rank = (rows * columns if abs(aspect) < math.log(1.5) else 0, aspect)
        if rank > best_rank:
            best, best_rank = (rows, columns), rank
    return best


def adaptive_pool(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Adaptive mean of (T, h, w, C) to (T', h', w', C), computed in float32.

    At the same size it is the identity, bit for bit.
    """
    if tuple(x.shape[:3]) == tuple(shape):
        return x
    moved = x.permute(3, 0, 1, 2)[None].float()
    return functional.adaptive_avg_pool3d(moved, shape)[0].permute(1, 2, 3, 0).to(x.dtype)


def thumbnail_grid(count: int) -> tuple[int, int]:
    """(rows, columns) of a thumbnail of `count` frames: the squarest factors, rows >= columns."""
    columns = max(d for d in range(1, math.isqrt(count) + 1) if count % d == 0)
    return count // columns, columns


def thumbnail(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Tile (n, C, H, W) frames row by row in time order into one picture of about `size`.

    Each frame is resized to (size // grid) by area where it shrinks in any dimension, else
    bilinearly. The picture is smaller than `size` where the grid does not divide it.
    """
    rows, columns = thumbnail_grid(len(frames))
    cell = (size[0] // rows, size[1] // columns)
    if cell[0] < frames.shape[2] or cell[1] < frames.shape[3]:
        small = functional.interpolate(frames, size=cell, mode="area")
    else:
        small = functional.interpolate(frames, size=cell, mode="bilinear", align_corners=False)
    channels = frames.shape[1]
    tiled = small.view(rows, columns, channels, *cell).permute(2, 0, 3, 1, 4)
    return tiled.reshape(channels, rows * cell[0], columns * cell[1])


def contact_sheet(frames: Tensor, columns: int, cell: tuple[int, int]) -> Tensor:
    """Tile (n, H, W, 3) uint8 frames row by row into one picture (rows * h, columns * w, 3).

    Each is resized to `cell` (h, w), bilinearly and without aliasing; empty cells are black.
    """
    small = resized(frames, cell)
    rows = -(-len(frames) // columns)
    sheet = small.new_zeros(rows * columns, *small.shape[1:])
    sheet[: len(small)] = small
    ordered = sheet.view(rows, columns, *cell, 3).transpose(1, 2)
    return ordered.reshape(rows * cell[0], columns * cell[1], 3)


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, H, W, 3) uint8 frames to (n, h, w, 3), bilinearly and without aliasing."""
    moved = frames.permute(0, 3, 1, 2)
    small = functional.interpolate(moved, size, mode="bilinear", antialias=True)
    return small.permute(0, 2, 3, 1)
