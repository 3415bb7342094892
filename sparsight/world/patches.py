"""The patches to paint: where each thing's sprite lands in each frame, in pixels.

Shape suffixes: N things in frames; n patches of one size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from sparsight.world.atlas import Shelf, Wanted, shelf_of, stack
from sparsight.world.library import Library
from sparsight.world.placing import POINTER, Frames, Layout, Rows
from sparsight.world.sprites import CORE, MARGIN, Sprite, pointer, sprite

_POINTER_TALL = 0.09  # height of the pointer in units, whatever the zoom
_SHADE = 10  # grey levels by which a thing's color may differ from its name's
# Sides of patches. Each thing takes the next larger one, so that few sizes occur.
_SIDES = np.array([8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 768, 1024])


@dataclass(frozen=True)
class Group:
    """Patches (n) of one size at one depth, no two in one frame.

    piece: which piece of the frames. owner: what to write as owner, 0 to leave it. size: height
    and width. pictures: the stack of sprites, `sprite` (n,) int64 which of them. first (n,) int64:
    the patch's first pixel in its piece. numbers (n, 16) float32, in columns: from the thing's
    centre to the middle of that pixel (x, y); how pixels from the centre map to the picture, -1 to
    1 over its width and height (x: across, down, at the centre; the same of y); pixels to a unit
    of signed distance; RGB of the face and of the pen, lit; the light.
    """

    piece: int
    owner: int
    size: tuple[int, int]
    pictures: torch.Tensor
    sprite: torch.Tensor
    first: torch.Tensor
    numbers: torch.Tensor


@dataclass(frozen=True)
class _Boxes:
    """Where the things (N) are in the picture, in pixels: centre, size along its own axes, half of
    the upright box around it with a pixel to spare; sine and cosine of the turn."""

    x: np.ndarray
    y: np.ndarray
    wide: np.ndarray
    tall: np.ndarray
    half_w: np.ndarray
    half_h: np.ndarray
    sin: np.ndarray
    cos: np.ndarray


def groups(
    layout: Layout,
    size: tuple[int, int],
    piece: int,
    library: Library,
    device: torch.device,
) -> Iterator[Group]:
    """All patches, piece after piece of `piece` frames and back to front within each.

    size: height and width of the picture in pixels.
    """
    extent, frames, rows = layout.extent, layout.frames, layout.rows
    if not rows.looks:
        return
    boxes = _boxes(frames, rows, extent, size)
    sprites = [pointer() if look is None else sprite(look, library) for look in rows.looks]
    shelves = [shelf_of(picture) for picture in sprites]
    makes = list(dict.fromkeys(shelves))
    make = np.array([makes.index(shelf) for shelf in shelves])[rows.look]
    # Only what is written on is long; all else takes square patches, of which there are fewer.
    written = np.array([shelf.channels == 2 for shelf in makes])[make]
    most = np.maximum(boxes.half_w, boxes.half_h)
    wide = _patch_side(np.where(written, boxes.half_w, most), size[1])
    high = _patch_side(np.where(written, boxes.half_h, most), size[0])
    left = np.clip(np.floor(boxes.x - boxes.half_w).astype(np.int64), 0, size[1] - wide)
    top = np.clip(np.floor(boxes.y - boxes.half_h).astype(np.int64), 0, size[0] - high)
    first = ((rows.frame % piece) * size[0] + top) * size[1] + left
    place = _places(rows, sprites, makes, make, boxes.tall, library, device)

    inside = (np.abs(boxes.x - size[1] / 2) < size[1] / 2 + boxes.half_w) & (boxes.tall > 0.1)
    inside &= np.abs(boxes.y - size[0] / 2) < size[0] / 2 + boxes.half_h
    order = np.lexsort((wide, high, make, rows.place, rows.frame // piece))
    order = order[inside[order]]
    if not len(order):
        return
    numbers = np.column_stack(
        [
            left + 0.5 - boxes.x,
            top + 0.5 - boxes.y,
            *_grid(boxes, sprites, rows.look, np.array([shelf.width for shelf in makes])[make]),
            *_colors(frames, rows, sprites, ~written),
        ]
    )
    on_device = torch.from_numpy(numbers[order].astype(np.float32)).to(device)
    index = torch.from_numpy(np.stack([place[order], first[order]])).to(device)
    keys = np.column_stack([rows.frame // piece, rows.place, make, high, wide])[order]
    starts = [0, *(np.flatnonzero((keys[1:] != keys[:-1]).any(1)) + 1).tolist(), len(order)]
    for start, end in pairwise(starts):
        which, owner, shelf, p, q = keys[start].tolist()
        yield Group(
            which,
            0 if owner == POINTER else owner + 1,
            (p, q),
            stack(makes[shelf], device).pictures,
            index[0, start:end],
            index[1, start:end],
            on_device[start:end],
        )


def _boxes(
    frames: Frames, rows: Rows, extent: tuple[float, float], size: tuple[int, int]
) -> _Boxes:
    at = rows.frame
    pointing = rows.place == POINTER
    zoom = frames.zoom[at]
    aspects = np.array([1.0 if look is None else look.aspect for look in rows.looks])
    tall = np.where(pointing, _POINTER_TALL, rows.tall * zoom) * min(size)
    wide = tall * aspects[rows.look]
    x = (rows.x - extent[1] / 2 - frames.x[at]) * zoom + extent[1] / 2
    y = (rows.y - extent[0] / 2 - frames.y[at]) * zoom + extent[0] / 2
    turn = np.deg2rad(rows.turn)
    sin, cos = np.sin(turn), np.cos(turn)
    return _Boxes(
        x * (size[1] / extent[1]) + pointing * wide / 2,  # what points is its top left corner
        y * (size[0] / extent[0]) + pointing * tall / 2,
        wide,
        tall,
        (wide * np.abs(cos) + tall * np.abs(sin)) / 2 + 1,
        (wide * np.abs(sin) + tall * np.abs(cos)) / 2 + 1,
        sin,
        cos,
    )


def _patch_side(half: np.ndarray, limit: int) -> np.ndarray:
    """Pixels that hold 2 * half, wherever it starts; at most the picture."""
    index = np.searchsorted(_SIDES, 2 * half + 1)
    return np.minimum(np.append(_SIDES, limit)[index], limit)


def _grid(
    boxes: _Boxes, sprites: list[Sprite], look: np.ndarray, full: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The numbers of a group that say how pixels map to pictures `full` texels wide."""
    core = np.array([picture.outline.shape[1] - 2 * MARGIN for picture in sprites])[look]
    tall = np.maximum(boxes.tall, 1e-6)
    wide = np.maximum(boxes.wide, 1e-6)
    across, down = 2 * core / (wide * full), 2 * CORE / (tall * (CORE + 2 * MARGIN))
    return (
        across * boxes.cos,
        across * boxes.sin,
        2 * (MARGIN + core / 2) / full - 1,
        -down * boxes.sin,
        down * boxes.cos,
        np.zeros(len(look)),
        np.minimum(tall, wide * CORE / core),
    )


def _colors(
    frames: Frames, rows: Rows, sprites: list[Sprite], shaded: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face (N, 3) and pen (N, 3) in the light of their frames, and the light (N,)."""
    light = frames.light[rows.frame]
    face = np.array([picture.face for picture in sprites], float)[rows.look]
    pen = np.array([picture.pen for picture in sprites], float)[rows.look]
    # Every thing of every scene has its own shade: three bytes of a hash of both numbers.
    mixed = (frames.seed[rows.frame] * np.uint64(64) + rows.place.astype(np.uint64)) * _MIX
    parts = (mixed[:, None] >> np.array([40, 48, 56], np.uint64)) & np.uint64(255)
    face += shaded[:, None] * (parts.astype(float) / 127.5 - 1) * _SHADE
    lit = light[:, None]
    return np.clip(face * lit, 0, 255), np.clip(pen * lit, 0, 255), light


_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits spread evenly: multiplying by it mixes upwards


def _places(
    rows: Rows,
    sprites: list[Sprite],
    makes: list[Shelf],
    make: np.ndarray,
    tall: np.ndarray,
    library: Library,
    device: torch.device,
) -> np.ndarray:
    """(N,) int64: where each thing's picture lies in its stack, brought there if it was not."""
    place = np.zeros(len(make), np.int64)
    for index, shelf in enumerate(makes):
        mine = np.flatnonzero(make == index)
        code = rows.look[mine] * 4
        if shelf.channels == 4:
            texels = np.log2(CORE / np.maximum(tall[mine], 1))  # to a pixel, as powers of 2
            code += np.clip(np.floor(texels), 0, 3).astype(np.int64)
        codes, which = np.unique(code, return_inverse=True)
        wanted = []
        for number in codes.tolist():
            look = rows.looks[number // 4]
            key = None if look is None else (look.kind, look.name, look.variant, library)
            wanted.append(Wanted(key, sprites[number // 4], number % 4))
        place[mine] = np.array(stack(shelf, device).hold(wanted), np.int64)[which]
    return place
