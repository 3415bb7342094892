"""Cutting the tokens of each view into cells of a coarser grid."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsight.ops.regrid import coarser_grid


def view_cells(box: Tensor, view: Tensor, candidates: Tensor, counts: dict[int, int]) -> Tensor:
    """The cell of each candidate token in a coarser grid over its own view.

    Args:
        box: (N, 4) areas of the tokens; their centres are placed on the grid.
        view: (N,) the view of each token.
        candidates: (M,) indices of the tokens to place, grouped by view or not.
        counts: cells each view may have at most.

    Returns (N,) long: a number for each cell, different from view to view; every token that is
    no candidate has a number of its own.
    """
    cells = torch.arange(len(box), device=box.device)
    for number, count in counts.items():
        members = candidates[view[candidates] == number]
        if count >= len(members):
            continue  # a packing that leaves patches out has fewer tokens than its grid has cells
        # Rounded: centres of one row differ in the last bits after pooling and stitching.
        centre = ((box[members, :2] + box[members, 2:]) * 5e3).round()
        columns, column = centre[:, 0].unique(return_inverse=True)
        rows, row = centre[:, 1].unique(return_inverse=True)
        height, width = coarser_grid((len(rows), len(columns)), count)
        cell = (row * height // len(rows)) * width + column * width // len(columns)
        # Name each cell after its first member, so that numbers never meet across views.
        first = torch.full((height * width,), len(box), device=box.device)
        first = first.scatter_reduce(0, cell, members, reduce="amin")
        cells[members] = first[cell]
    return cells


def cells_for(box: Tensor, view: Tensor, prunable: Tensor, keep: float | int) -> Tensor:
    """The cells of all prunable tokens at a budget over the whole medium; see `view_cells`.

    A share holds for each view alone; a count is dealt to the views by their size, the larger
    remainders first.
    """
    candidates = prunable.nonzero()[:, 0]
    numbers, sizes = view[candidates].unique(return_counts=True)
    if isinstance(keep, float):
        quotas = [max(1, round(size * keep)) for size in sizes.tolist()]
    else:
        quotas = deal(keep, sizes.tolist())
    counts = dict(zip(numbers.tolist(), quotas, strict=True))
    cells = view_cells(box, view, candidates, {n: q for n, q in counts.items() if q > 0})
    for number, quota in counts.items():
        if quota == 0:
            cells[candidates[view[candidates] == number]] = -1
    return cells


def deal(count: int, sizes: list[int]) -> list[int]:
    """Deal `count` to groups in proportion to their sizes, whole numbers, largest remainder."""
    total = sum(sizes)
    exact = [count * size / total for size in sizes]
    dealt = [int(value) for value in exact]
    order = sorted(range(len(sizes)), key=lambda place: dealt[place] - exact[place])
    for place in order[: count - sum(dealt)]:
        dealt[place] += 1
    return dealt


def middle_of_cells(box: Tensor, cells: Tensor) -> Tensor:
    """The member of each cell nearest to the mean centre of its members, as ascending indices."""
    members = (cells >= 0).nonzero()[:, 0]
    _, cell = cells[members].unique(return_inverse=True)
    centre = (box[members, :2] + box[members, 2:]) / 2
    sizes = cell.bincount()
    mean = torch.zeros(len(sizes), 2, device=box.device, dtype=box.dtype)
    mean = mean.index_add(0, cell, centre) / sizes[:, None]
    spread = (centre - mean[cell]).square().sum(1)
    order = spread.argsort(stable=True)
    order = order[cell[order].argsort(stable=True)]
    return members[order[sizes.cumsum(0) - sizes]].sort().values
