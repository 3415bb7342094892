"""What is shown of a batch: pixels, who owns them, and what is true of the things.

Shape suffixes: V views, K things.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from embedded_data import Batch, augment, to_pixels
from embedded_labels import Tables, tables
from embedded_models import SIDE
from torch import Tensor

from sparsight.world.paint import paint_batch


@dataclass(frozen=True)
class Shown:
    """`pixels` (V, 3, S, S) float in -1..1, augmented; `owners` (V, S, S) uint8; `truth`."""

    pixels: Tensor
    owners: Tensor
    truth: Tables


@torch.no_grad()
def shown(batch: Batch, device: torch.device) -> Shown:
    """Paint a batch where the network is, in full precision whatever the training's.

    Scenes of kind "view" that are painted larger than a view are cut to one around a thing, as
    the tiles of a large picture show it.
    """
    with torch.autocast(device.type, enabled=False):
        painted = paint_batch(batch.shots, batch.layout.side, device=device)
        pixels, owners = to_pixels(painted.frames), painted.owners
        truth = tables(batch.shots).to(device)
        if batch.layout.kind == "view" and batch.layout.side > SIDE:
            pixels, owners, truth = _cut(pixels, owners, truth, batch.seed)
        views = [len(times) for _, times in batch.shots]
        return Shown(augment(pixels, views, batch.seed), owners, truth)


def _cut(pixels: Tensor, owners: Tensor, truth: Tables, seed: int) -> tuple[Tensor, Tensor, Tables]:
    """A view of SIDE x SIDE pixels of each picture, with a thing somewhere in it."""
    rng = np.random.default_rng([seed, 1])
    side = pixels.shape[-1]
    box = truth.box.cpu().numpy() * side
    corners = np.zeros((len(pixels), 2), np.int64)
    for view, things in enumerate(box):
        there = np.flatnonzero(~np.isnan(things[:, 0]))
        middle = np.full(2, side / 2)
        if len(there):
            x0, y0, x1, y1 = things[rng.choice(there)]
            middle = np.array([x0 + x1, y0 + y1]) / 2
        shifted = middle - SIDE / 2 + rng.uniform(-0.3, 0.3, 2) * SIDE
        corners[view] = np.clip(shifted, 0, side - SIDE)
    cut = [
        (slice(y, y + SIDE), slice(x, x + SIDE)) for x, y in corners.tolist()
    ]  # rows, columns of each view
    pixels = torch.stack([pixels[view][:, rows, cols] for view, (rows, cols) in enumerate(cut)])
    owners = torch.stack([owners[view][rows, cols] for view, (rows, cols) in enumerate(cut)])
    corner = torch.from_numpy(np.tile(corners, 2)).to(truth.box)[:, None]
    return pixels, owners, replace(truth, box=(truth.box * side - corner) / SIDE)
