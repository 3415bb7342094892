"""Cutting a film into segments. Shapes: T frames, C channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

T = TypeVar("T")


def segments_by_likeness(frames: Tensor, threshold: float, least: int) -> list[int]:
    """The lengths of segments of (T, C) frame features, cut where neighbours are unlike.

    Cuts lie where the cosine of neighbouring frames is below `threshold`; where that makes fewer
    than `least` segments, the least alike of the other neighbours are parted too.
    """
    frames = frames.float()
    likeness = functional.cosine_similarity(frames[1:], frames[:-1], dim=-1)
    cut = likeness < threshold
    missing = min(max(0, least - 1 - int(cut.sum())), len(likeness))
    further = likeness.masked_fill(cut, torch.inf).argsort(stable=True)[:missing]
    cut[further] = True
    borders = [0, *(cut.nonzero()[:, 0] + 1).tolist(), len(frames)]
    return [stop - start for start, stop in pairwise(borders)]


def segments_of_labels(labels: list[int]) -> list[int]:
    """The lengths of segments made of the cluster of each frame, in which clusters lie scattered.

    A cluster keeps its longest runs of neighbouring frames (all of the greatest length), unless
    none is longer than one frame. The frames between kept runs join the longer of the runs at
    their sides, the earlier where both are of a length. Equal neighbours are one segment.
    """
    longest: dict[int, int] = {}
    for label, length in _runs(labels):
        longest[label] = max(length, longest.get(label, 0))
    kept: list[int | None] = []
    for label, length in _runs(labels):
        stays = length == longest[label] > 1
        kept += [label if stays else None] * length
    runs = _runs(kept)
    joined: list[tuple[int | None, int]] = []
    for at, (own, length) in enumerate(runs):
        name = own
        if own is None:
            before = joined[-1] if joined else (None, 0)
            after = runs[at + 1] if at + 1 < len(runs) else (None, 0)
            name = before[0] if before[1] >= after[1] else after[0]
        if joined and joined[-1][0] == name:
            length += joined.pop()[1]
        joined.append((name, length))
    return [length for _, length in joined]


def _runs(labels: Sequence[T]) -> list[tuple[T, int]]:
    """Each run of equal neighbours and its length."""
    return [(label, len(list(run))) for label, run in groupby(labels)]
