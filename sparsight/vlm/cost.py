"""What a request costs the vision side, by formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from sparsight.core.tokens import Views
from sparsight.measure.flops import (
    TowerShape,
    counted_flops,
    projector_flops,
    projector_widths,
    tower_flops,
    tower_shape,
)
from sparsight.modules.towers import TowerMerge
from sparsight.vlm.families.base import Family


def vision_flops(
    family: Family,
    views: Sequence[Views],
    projected: int,
    merge: Callable[[int, int], TowerMerge] | None = None,
) -> float:
    """Operations of the tower and the projector for media of one kind.

    Args:
        views: the media; one kind.
        projected: tokens that leave the projector, over all views.
        merge: the merging inside the tower, if any.
    """
    shape = tower_shape(family.tower(views[0].kind).config)
    total = projector_flops(projector_widths(family.config), projected)
    if shape is None:
        return total + _counted(family, views)
    for item in views:
        rows, columns = _patches(family, item, shape)
        counts = [rows * columns + shape.cls] * shape.layers
        if merge is not None:
            counts = _merged(counts[0], rows * columns, shape.layers, merge, family, item)
        total += tower_flops(shape, counts, views=len(item), grid=(rows, columns))
    return total


def _patches(family: Family, views: Views, shape: TowerShape) -> tuple[int, int]:
    """Rows and columns of patches of a view; a family may pool them before its connector."""
    pixels = views.inputs.get("pixel_values")
    if pixels is None or pixels.ndim != 4:  # patches in one packed sequence
        return views.grid[0] * shape.merge, views.grid[1] * shape.merge
    config: Any = family.tower(views.kind).config
    patch = config.patch_size
    tall, wide = (patch, patch) if isinstance(patch, int) else patch
    return pixels.shape[-2] // tall, pixels.shape[-1] // wide


def _merged(
    tokens: int,
    patches: int,
    layers: int,
    merge: Callable[[int, int], TowerMerge],
    family: Family,
    views: Views,
) -> list[int]:
    """Tokens that enter each block, and those that leave the last."""
    protected = tokens - patches
    depth = family.producer(views.kind) + 1
    counts = [tokens]
    for removed in [*merge(depth, patches).removed, *[0] * (layers - depth)]:
        counts.append(counts[-1] - min(removed, (counts[-1] - protected) // 2))
    return counts


def _counted(family: Family, views: Sequence[Views]) -> float:
    """For towers without a formula: count one pass of a single view and keep the number."""
    inputs = dict(family.batch_inputs(views[:1]))
    pixels = inputs["pixels"][:1]
    key = (views[0].kind, tuple(pixels.shape))
    known = family.__dict__.setdefault("_counted_flops", {})
    if key not in known:
        blank = torch.zeros_like(pixels, dtype=family.model.dtype)
        known[key] = counted_flops(family.tower(views[0].kind), blank)
    return known[key] * sum(len(item) for item in views)
