"""What stands still in a film: the best segments to average it over.

Shapes: T frames, N positions of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StillSegments:
    """Segments of a film, as (first, last) frames, and the tokens that averaging in them saves."""

    borders: list[tuple[int, int]]
    saved: int


def still_segments(alike: Tensor, longest: int) -> StillSegments:
    """The segments that save most tokens when still positions are averaged over time.

    Args:
        alike: (T - 1, N) bool, whether a position looks like itself one frame later.
        longest: frames that a segment has at most.

    A position is still in a segment if it is alike at every step; it then saves a token for each
    frame but one. Of equally good segmentations the one with the shorter last segment wins, from
    the end on. Exact, by dynamic programming over the frames.
    """
    steps = len(alike)
    # run[t, n]: how many steps up to t, in a row, position n has been alike.
    place = torch.arange(1, steps + 1, device=alike.device)[:, None].expand_as(alike)
    run = place - place.masked_fill(alike, 0).cummax(0).values
    counts = torch.zeros(steps, steps + 1, dtype=torch.long, device=alike.device)
    counts = counts.scatter_add(1, run, torch.ones_like(run))
    still = counts.flip(1).cumsum(1).flip(1).cpu()  # [t, k]: still over the k steps up to t
    best = torch.zeros(steps + 2, dtype=torch.long)  # [j]: saved in the first j frames
    length = [1] * (steps + 1)
    for last in range(1, steps + 1):
        reach = min(last + 1, longest)  # frames of the last segment, 1 to `reach`
        frames = torch.arange(reach)
        saved = best[last + 1 - reach : last + 1].flip(0) + still[last - 1, :reach] * frames
        best[last + 1] = saved.max()
        length[last] = int(saved.argmax()) + 1
    borders, last = [], steps
    while last >= 0:
        borders.append((last + 1 - length[last], last))
        last -= length[last]
    return StillSegments(borders[::-1], int(best[-1]))


def still_positions(alike: Tensor, segment: tuple[int, int]) -> Tensor:
    """(N,) bool: the positions that are still in a segment; none in a single frame."""
    first, last = segment
    if first == last:
        return torch.zeros_like(alike[0]) if len(alike) else alike.new_zeros(alike.shape[1])
    return alike[first:last].all(0)
