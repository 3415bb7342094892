"""Ways to make the features of one frame fewer, to a count of tokens (QuoTA, arXiv:2503.08689).

h, w rows and columns of a frame, D width, C any channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.ops.frame_budget import grid_within
from sparsight.ops.merge import Matching, bipartite_matching
from sparsight.ops.regrid import adaptive_pool


@dataclass(frozen=True)
class Smaller:
    """What a frame becomes: its (rows, columns) of tokens, and the way there, (h, w, C) ->
    (rows, columns, C), for the features and whatever is aligned with them."""

    shape: tuple[int, int]
    run: Callable[[Tensor], Tensor]


def by_bilinear(x: Tensor, count: int) -> Smaller:
    """Interpolation of (h, w, D) without smoothing; more tokens than there are are possible."""
    shape = grid_within(count, (x.shape[0], x.shape[1]))
    return Smaller(shape, lambda value: _bilinear(value, shape))


def by_adaptive_mean(x: Tensor, count: int) -> Smaller:
    """The mean over a coarser grid."""
    shape = grid_within(count, (x.shape[0], x.shape[1]))
    return Smaller(shape, lambda value: adaptive_pool(value[None], (1, *shape))[0])


def by_stride(x: Tensor, count: int) -> Smaller:
    """Tokens at equal stride, places rounded down, in one row."""
    total = x.shape[0] * x.shape[1]
    picks = torch.linspace(0, total - 1, count).long().to(x.device)
    return Smaller((1, count), lambda value: value.flatten(0, 1)[picks][None])


def by_merging(x: Tensor, count: int) -> Smaller:
    """Half the rows and columns bilinearly, then bipartite merging, in one row.

    Tokens are left in the order of the merging, which is not that of the frame.
    """
    shape = halved_grid((x.shape[0], x.shape[1]))
    merged = _Merging.down_to(_bilinear(x, shape).flatten(0, 1)[None], count)
    return Smaller((1, count), lambda value: merged(_bilinear(value, shape).flatten(0, 1)[None]))


def by_merging_axes(x: Tensor, count: int) -> Smaller:
    """Bipartite merging within each row, then within each column of what is left."""
    rows, columns = grid_within(count, (x.shape[0], x.shape[1]))
    along = _Merging.down_to(x, columns)
    across = _Merging.down_to(along(x).transpose(0, 1), rows)
    return Smaller(
        (rows, columns), lambda value: across(along(value).transpose(0, 1)).transpose(0, 1)
    )


def halved_grid(shape: tuple[int, int]) -> tuple[int, int]:
    """Half the rows and columns, rounded up."""
    return -(-shape[0] // 2), -(-shape[1] // 2)


def _bilinear(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """(h, w, C) to (h', w', C), corners not aligned; at the same size itself, bit for bit."""
    if (x.shape[0], x.shape[1]) == shape:
        return x
    moved = x.permute(2, 0, 1)[None].float()
    return functional.interpolate(moved, shape, mode="bilinear")[0].permute(1, 2, 0).to(x.dtype)


@dataclass(frozen=True)
class _Merging:
    """Bipartite merging of rows of tokens (V, N, C) in rounds that halve them at most.

    Every round averages anew, as the official code does: a token that already stands for several
    counts as one.
    """

    rounds: tuple[Matching, ...]

    @classmethod
    def down_to(cls, x: Tensor, count: int) -> _Merging:
        """The rounds that leave `count` of (V, N, C) tokens."""
        rounds = []
        while (matching := bipartite_matching(x, x.shape[1] - count)) is not None:
            rounds.append(matching)
            x, _ = matching.average(x, x.new_ones(x.shape[:2]))
        return cls(tuple(rounds))

    def __call__(self, x: Tensor) -> Tensor:
        for matching in self.rounds:
            x, _ = matching.average(x, x.new_ones(x.shape[:2]))
        return x
