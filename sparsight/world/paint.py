"""Pixels of scenes, and which thing each of them shows.

All frames of all scenes are painted together. Things are drawn back to front, but only around
themselves: for the things of one depth and about one size, the patches of all frames are sampled
from their sprites, laid over the picture and written back in one go. The arithmetic of a frame
does not depend on the frames beside it, so neither do its pixels.

Shape suffixes: F frames; n patches of p x q pixels; C = 3 colors; H and W the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from sparsight.core.errors import UserError
from sparsight.world import textures
from sparsight.world.library import Library
from sparsight.world.patches import Group, groups
from sparsight.world.placing import Frames, Items, Layout, lay_out
from sparsight.world.scene import Scene, pixel_size

SIDES = (16, 2048)  # the smallest and largest shorter side of a picture

# Pixels that are painted at a time: what stays in the caches of a processor, or keeps a GPU busy;
# and of those, pixels of background in floats.
_PIECE = {"cpu": 2**20}
_VIEWS = {"cpu": 2**18}

_GRAIN = 2**20  # values of the grain before it repeats
_SPREAD = 32  # of the grain's values


@dataclass(frozen=True)
class Painted:
    """frames (T, H, W, 3) uint8 RGB; owners (T, H, W) uint8: 0 where the background is seen,
    k + 1 where thing k is. In memory colors lie in planes: `frames.permute(0, 3, 1, 2)` is
    contiguous, as models take it, and `frames` is not."""

    frames: torch.Tensor
    owners: torch.Tensor


def paint(
    scene: Scene,
    times: Sequence[float] | np.ndarray,
    side: int = 112,
    *,
    library: Library | None = None,
    device: str | torch.device = "cpu",
) -> Painted:
    """What is seen at `times`, `side` pixels along the shorter side of the picture.

    UserError: a side out of range, or a digit or photograph that the library lacks.
    """
    return paint_batch([(scene, times)], side, library=library, device=device)


def paint_film(
    scene: Scene,
    side: int = 112,
    *,
    chunk: int = 64,
    library: Library | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Painted]:
    """All frames of a scene, in order, at most `chunk` at a time and fewer of large pictures, so
    that memory does not grow with the film."""
    height, width = pixel_size(scene, side)
    chunk = max(1, min(chunk, 2**24 // (height * width)))
    times = scene.times
    for first in range(0, len(times), chunk):
        yield paint(scene, times[first : first + chunk], side, library=library, device=device)


def paint_batch(
    items: Items,
    side: int = 112,
    *,
    library: Library | None = None,
    device: str | torch.device = "cpu",
) -> Painted:
    """The given instants of many scenes of one aspect, one after the other.

    UserError: as `paint`, no scenes, or scenes of different aspects.
    """
    return paint_layout(lay_out(items), side, library=library, device=device)


def paint_layout(
    layout: Layout,
    side: int = 112,
    *,
    library: Library | None = None,
    device: str | torch.device = "cpu",
) -> Painted:
    """`paint_batch` of what `lay_out` made of the scenes, perhaps in another process."""
    if not SIDES[0] <= side <= SIDES[1]:
        raise UserError(f"a side of {side} pixels: choose {SIDES[0]} to {SIDES[1]}")
    extent, frames = layout.extent, layout.frames
    size = (round(extent[0] * side), round(extent[1] * side))
    where = torch.device(device)
    library = library or Library()
    count = len(frames.time)
    painted = torch.empty(count, 3, *size, dtype=torch.uint8, device=where)
    owners = torch.empty(count, *size, dtype=torch.uint8, device=where)
    piece = max(1, _PIECE.get(where.type, 2**26) // (size[0] * size[1]))
    patches = groups(layout, size, piece, library, where)
    group = next(patches, None)
    for index, first in enumerate(range(0, count, piece)):
        part = slice(first, min(first + piece, count))
        canvas = torch.zeros(4, part.stop - first, *size, dtype=torch.uint8, device=where)
        _lay_ground(canvas, frames, part, extent, library)
        while group is not None and group.piece == index:
            _lay_over(canvas, group)
            group = next(patches, None)
        _lay_grain(painted[part], canvas, frames, part)
        owners[part] = canvas[3]
    return Painted(painted.permute(0, 2, 3, 1), owners)


def _lay_ground(
    canvas: torch.Tensor,
    frames: Frames,
    part: slice,
    extent: tuple[float, float],
    library: Library,
) -> None:
    """Draw each view of a background that occurs once, and copy it into its frames."""
    camera = (frames.background, frames.x, frames.y, frames.zoom, frames.light)
    seen = np.stack([values[part] for values in camera])
    views, which = np.unique(seen, axis=1, return_inverse=True)
    few = max(1, _VIEWS.get(canvas.device.type, 2**26) // canvas[0, 0].numel())
    drawn = []
    for first in range(0, views.shape[1], few):
        background, *how = views[:, first : first + few]
        asked = textures.Views(frames.backgrounds, background.astype(np.int64), *how)
        size = (canvas.shape[2], canvas.shape[3])
        drawn.append(textures.draw(asked, extent, size, library, canvas.device))
    drawn_VCHW = torch.cat(drawn)
    index = torch.from_numpy(which.reshape(-1)).to(canvas.device)
    for color in range(3):
        torch.index_select(drawn_VCHW[:, color], 0, index, out=canvas[color])


def _lay_over(canvas: torch.Tensor, group: Group) -> None:
    """Draw the things of a group over the canvas (4, F, H, W) of colors and owners."""
    p, q = group.size
    steps = torch.arange(max(p, q), device=canvas.device)
    # Column by column: (n, 1, 1) each.
    left, top, xx, xy, x0, yx, yy, y0, tall, *paints = group.numbers.T[..., None, None]
    x = left + steps[:q]
    y = top + steps[:p, None]
    grid = torch.empty(len(left), p, q, 2, device=canvas.device)
    torch.add(x * xx + x0, y * xy, out=grid[..., 0])
    torch.add(x * yx + y0, y * yy, out=grid[..., 1])
    picked = F.grid_sample(
        group.pictures.index_select(0, group.sprite),
        grid,
        padding_mode="border",
        align_corners=False,
    )
    alpha = (picked[:, 0] * tall).add_(0.5).clamp_(0, 1)
    face, pen, light = paints[:3], paints[3:6], paints[6]
    ink = (picked[:, 1] * tall).add_(0.5).clamp_(0, 1) if picked.shape[1] == 2 else None

    stride = canvas.shape[3]
    index = (group.first[:, None, None] + steps[:p, None] * stride + steps[:q]).view(-1)
    planes = canvas.view(4, -1)
    for color in range(3):
        if picked.shape[1] == 4:
            over = (picked[:, 1 + color] * light).clamp_(0, 255)
        elif ink is not None:
            over = face[color] + ink * (pen[color] - face[color])
        else:
            over = face[color]
        under = planes[color].index_select(0, index).view(alpha.shape).float()
        mixed = (over - under).mul_(alpha).add_(under).add_(0.5).to(torch.uint8)
        planes[color].scatter_(0, index, mixed.view(-1))
    if group.owner:
        mine = (alpha > 0.5).view(-1)
        owners = planes[3].index_select(0, index).masked_fill_(mine, group.owner)
        planes[3].scatter_(0, index, owners)


def _lay_grain(out: torch.Tensor, canvas: torch.Tensor, frames: Frames, part: slice) -> None:
    """The colors of the canvas with grain on them, into out (F, 3, H, W).

    Each frame takes the pool of grain from another place, which its scene and instant decide.
    """
    colors = canvas[:3].transpose(0, 1)
    noise = frames.noise[part]
    if not noise.any():
        out.copy_(colors)
        return
    instant = np.rint(frames.time[part] * 1000).astype(np.int64).astype(np.uint64)
    mixed = (frames.seed[part] * _MIX + instant) * _MIX
    start = torch.from_numpy((mixed >> np.uint64(44)).astype(np.int64)).to(out.device)
    length = out[0].numel()
    windows = _grain(length, out.device).unfold(0, length, 1)
    spread = torch.from_numpy(np.rint(noise * 8).astype(np.int16)).to(out.device)
    grain = windows.index_select(0, start).to(torch.int16).mul_(spread[:, None])
    grain = grain.add_(128).bitwise_right_shift_(8).view(out.shape)
    out.copy_(grain.add_(colors).clamp_(0, 255))


_MIX = np.uint64(0x9E3779B97F4A7C15)


@lru_cache(maxsize=8)
def _grain(length: int, device: torch.device) -> torch.Tensor:
    """(_GRAIN + length,) int8: values of spread _SPREAD, repeated."""
    values = np.random.default_rng(7).standard_normal(_GRAIN, np.float32) * _SPREAD
    pool = np.clip(np.rint(values), -127, 127).astype(np.int8)
    return torch.from_numpy(np.resize(pool, _GRAIN + length)).to(device)
