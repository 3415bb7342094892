"""The orthonormal discrete cosine transform (type 2) and what is left of it at a smaller size.

Transform, crop and inverse are one small matrix an axis. Shapes: n points, r kept ones, V views,
h w rows and columns, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dct_matrix(size: int) -> Tensor:
    """D (n, n) float64 with D @ x the transform of x and D @ D.mT the identity."""
    point = torch.arange(size, dtype=torch.float64)
    matrix = (math.pi * (2 * point + 1) * point[:, None] / (2 * size)).cos() * (2 / size) ** 0.5
    matrix[0] = (1 / size) ** 0.5
    return matrix


def low_frequencies(x: Tensor, grid: tuple[int, int], rescale: bool = False) -> Tensor:
    """The map of size `grid` that has the lowest frequencies of x (V, h, w, C), in float32.

    The mean grows by sqrt(h * w / cells) unless `rescale`. At the same size it is the identity,
    bit for bit; no axis may grow.
    """
    if tuple(x.shape[1:3]) == tuple(grid):
        return x
    rows, columns = (
        _shorter(x.shape[1 + axis], grid[axis], rescale).to(x.device) for axis in (0, 1)
    )
    return torch.einsum("rh,vhwc,sw->vrsc", rows, x.float(), columns).to(x.dtype)


def _shorter(size: int, kept: int, rescale: bool) -> Tensor:
    """(r, n): transform n points, keep r coefficients, transform back to r points."""
    assert kept <= size, "a map cannot grow"
    matrix = dct_matrix(kept).mT @ dct_matrix(size)[:kept]
    return (matrix * (kept / size) ** 0.5 if rescale else matrix).float()
