"""Pictures of a room, and for every pixel what it shows and how far away that is.

Light comes from a square lamp: each of the four rays of a pixel looks at another corner of it,
which softens edges and shadows alike.

Shape suffixes: V views, K things, ... any shape of points; vectors and colors are (3, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.world.scene import COLORS
from sparsight.world.space.rays import Hits, blocked, cast, normals, rays
from sparsight.world.space.room import Room, Solid, Surface

#: The axis and direction in which floor, ceiling and the four walls face.
_FACES = ((2, 1), (2, -1), (0, 1), (0, -1), (1, 1), (1, -1))
_CORNERS = ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25))  # of a pixel
_LAMP = 0.3  # metres, the edge of the lamp
_AMBIENT, _DIRECT, _SHINE = 0.64, 1.25, 0.35
_GRAIN = 2.5  # grey levels
_TABLE = 256  # random numbers along each side before they repeat; a power of two
_BAND = 1 << 18  # rays at once: what fits a processor's cache is fastest there
_SIDES = (16, 1344)


@dataclass(frozen=True)
class Views:
    """What the cameras of a room see, and the truth.

    frames (V, H, W, 3) uint8; depth (V, H, W) float32 metres along the axis of the camera; points
    (V, H, W, 3) float32 in the room; owners (V, H, W) uint8: 0 the room, k + 1 thing k.
    intrinsics (V, 3, 3) and extrinsics (V, 3, 4) float64, boxes (K, 7) and centres (K, 3) float64
    as `Room` explains them.
    """

    frames: Tensor
    depth: Tensor
    points: Tensor
    owners: Tensor
    intrinsics: np.ndarray
    extrinsics: np.ndarray
    boxes: np.ndarray
    centres: np.ndarray


def paint_room(room: Room, side: int = 112, device: str | torch.device = "cpu") -> Views:
    """Paint all views of a room, the shorter side of each with `side` pixels.

    The same room gives the same pixels. Truth is that of the centre of each pixel. Raises
    `UserError` for a side out of range.
    """
    if not _SIDES[0] <= side <= _SIDES[1]:
        raise UserError(f"side {side} is out of range: from {_SIDES[0]} to {_SIDES[1]:,}")
    height, width = room.pixels(side)
    count = len(room.eyes)
    frames = torch.empty((count, height, width, 3), dtype=torch.uint8, device=device)
    points = torch.empty((count, height, width, 3), device=device)
    depth = torch.empty((count, height, width), device=device)
    owners = torch.empty((count, height, width), dtype=torch.uint8, device=device)
    columns = torch.arange(width, device=device) + 0.5
    band = max(1, _BAND // (count * width))
    for top in range(0, height, band):
        rows = torch.arange(top, min(top + band, height), device=device) + 0.5
        part = (slice(None), slice(top, top + band))
        hits = cast(room, *rays(room, side, rows, columns))
        depth[part], owners[part] = hits.depth, hits.owner
        points[part] = hits.points.movedim(0, -1)
        light = torch.zeros((3, count, len(rows), width), device=device)
        for down, across in _CORNERS:
            origin, way = rays(room, side, rows + down, columns + across)
            light += _light(room, origin, way, (4 * across, 4 * down))
        light = light / len(_CORNERS)
        for view in range(count):
            light[:, view] += _grain(rows, columns, room.seed + view)
        frames[part] = light.clamp(0, 255).round().to(torch.uint8).movedim(0, -1)
    return Views(
        frames,
        depth,
        points,
        owners,
        room.intrinsics(side),
        room.extrinsics(),
        room.boxes(),
        room.centres(),
    )


def _light(room: Room, origin: Tensor, way: Tensor, corner: tuple[float, float]) -> Tensor:
    """(3, ...) the color that comes back along each ray, 0..255, lit by one corner of the lamp."""
    hits = cast(room, origin, way)
    color, normal = _room_surface(room, hits.points)
    shine = torch.zeros_like(hits.depth)
    for place, solid in enumerate(room.solids):
        mine = hits.owner == place + 1
        if bool(mine.any()):
            here = hits.points[:, mine]
            normal[:, mine] = normals(solid, here)
            color[:, mine] = _paint(solid, here)
            shine[mine] = 1.0
    x, y, z = room.lamp
    lamp = torch.tensor(
        (x + corner[0] * _LAMP / 2, y + corner[1] * _LAMP / 2, z), device=way.device
    ).view(3, *[1] * (way.dim() - 1))
    start = hits.points + normal * 1e-3
    to_lamp = lamp - start
    lit = ~blocked(room, start, to_lamp)
    far = _length(to_lamp)
    facing = (_dot(normal, to_lamp) / far).clamp(min=0)
    ambient = (_AMBIENT + 0.08 * normal[2]) * _open(room, hits, normal)
    direct = torch.where(lit, facing * _DIRECT / (1 + 0.13 * far * far), 0.0)
    out = color * (ambient + direct) * room.light
    mirrored = 2 * _dot(normal, to_lamp) * normal - to_lamp
    glint = (-_dot(mirrored, way) / (far * _length(way))).clamp(min=0)
    for _ in range(5):  # to the 32nd power
        glint = glint * glint
    return out + torch.where(lit, glint * shine * (_SHINE * 255), 0.0)


def _open(room: Room, hits: Hits, normal: Tensor) -> Tensor:
    """(...) 0..1, how much of the room a point sees: less in corners and beside things, each of
    which counts as the ball in its middle."""
    share = torch.ones_like(hits.depth)
    for axis, sign in _FACES:
        near = (1 - _gap(room, hits.points, axis, sign) / 0.4).clamp(min=0)
        share -= torch.where((hits.owner > 0) | (normal[axis] * sign > 0.5), 0.0, 0.22 * near)
    for place, solid in enumerate(room.solids):
        away = torch.stack([solid.centre[i] - hits.points[i] for i in range(3)])
        far = _dot(away, away).clamp(min=1e-6)
        hidden = _dot(normal, away).clamp(min=0) / far.sqrt() * (solid.width**2 / 4) / far
        share *= torch.where(hits.owner == place + 1, 1.0, 1 - 0.9 * hidden.clamp(max=1))
    return share


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _length(a: Tensor) -> Tensor:
    return _dot(a, a).sqrt()


def _paint(solid: Solid, points: Tensor) -> Tensor:
    """(3, N) the color of a thing at `points` (3, N) on it."""
    rgb = torch.tensor(COLORS[solid.color], dtype=torch.float32, device=points.device)
    return rgb[:, None].expand(3, points.shape[1])


def _room_surface(room: Room, points: Tensor) -> tuple[Tensor, Tensor]:
    """Color and inward normal (3, ...) of the floor, the ceiling and the walls at points on
    them."""
    x, y, z = points
    face, nearest = torch.zeros_like(x, dtype=torch.uint8), z
    normal = torch.zeros_like(points)
    for place, (axis, sign) in enumerate(_FACES):
        gap = _gap(room, points, axis, sign)
        face = torch.where(gap < nearest, place, face)
        nearest = torch.minimum(gap, nearest)
    for place, (axis, sign) in enumerate(_FACES):
        normal[axis] += (face == place) * float(sign)
    wall = _wall(room.walls, torch.where((face == 2) | (face == 3), y, x + 20), z)
    color = torch.where(face == 0, _floor(room.floor, x, y), wall)
    ceiling = torch.full_like(x, 225.0)
    return torch.where(face == 1, ceiling, color), normal


def _gap(room: Room, points: Tensor, axis: int, sign: int) -> Tensor:
    """(...) how far points are from one of the six sides of the room."""
    return points[axis] if sign > 0 else room.size[axis] - points[axis]


def _floor(surface: Surface, x: Tensor, y: Tensor) -> Tensor:
    """(3, ...) colors."""
    seed = surface.seed
    if surface.pattern == "planks":
        row = (x / 0.25).floor()
        along = y + _hash(row, torch.zeros_like(row), seed)
        board = along.floor()
        second = 0.5 * _hash(row, board, seed + 1) + 0.5 * _cloud(x * 24, y * 2, seed + 2)
        seam = _edge(x / 0.25, 0.02) | _edge(along, 0.005)
        return _mixed(surface, second) * torch.where(seam, 0.72, 1.0)
    row, column = (y / 0.5).floor(), (x / 0.5).floor()
    rough = 0.25 * _cloud(x * 5, y * 5, seed) + 0.15 * _cloud(x * 23, y * 23, seed + 1)
    if surface.pattern == "checks":
        return _mixed(surface, (row + column).remainder(2) * 0.6 + rough)
    seam = _edge(x / 0.5, 0.02) | _edge(y / 0.5, 0.02)
    return _mixed(surface, 0.4 * _hash(row, column, seed + 2) + rough + seam * 0.4)


def _wall(surface: Surface, along: Tensor, z: Tensor) -> Tensor:
    """(3, ...) colors `along` metres on the wall at height z."""
    seed = surface.seed
    rough = 0.3 * _cloud(along * 3, z * 3, seed) + 0.15 * _cloud(along * 19, z * 19, seed + 1)
    if surface.pattern == "bricks":
        row = (z / 0.25).floor()
        shifted = along / 0.5 + row.remainder(2) * 0.5
        seam = _edge(z / 0.25, 0.05) | _edge(shifted, 0.025)
        second = 0.45 * _hash(row, shifted.floor(), seed + 2) + rough + seam * 0.5
    elif surface.pattern == "stripes":
        second = (along / 0.25).floor().remainder(2) * 0.5 + rough
    elif surface.pattern == "panels":
        second = torch.where(z < 1, 0.6 + 0.4 * _edge(along / 0.5, 0.03), 0.0) + rough
    else:
        second = rough * 1.5
    board = (z < 0.1) & (surface.pattern != "bricks")
    return _mixed(surface, second) * torch.where(board, 0.75, 1.0)


def _mixed(surface: Surface, share: Tensor) -> Tensor:
    """(3, ...) the second color by `share` (...), the first for the rest."""
    first, second = (
        torch.tensor(rgb, dtype=torch.float32, device=share.device).view(3, *[1] * share.dim())
        for rgb in (surface.color, surface.second)
    )
    return first + (second - first) * share.clamp(0, 1)


def _edge(x: Tensor, width: float) -> Tensor:
    """(...) bool: whether x is within `width` of a whole number."""
    return (x - x.round()).abs() < width


def _cloud(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """(...) smooth noise 0..1 with one value at each pair of whole numbers."""
    left, top = x.floor(), y.floor()
    u, v = x - left, y - top
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    table = _table(x.device)
    right, down = _start(seed)
    x0, x1 = ((left.to(torch.int32) + right + i) & (_TABLE - 1) for i in (0, 1))
    y0, y1 = (((top.to(torch.int32) + down + i) & (_TABLE - 1)) * _TABLE for i in (0, 1))
    a, b, c, d = table[y0 + x0], table[y0 + x1], table[y1 + x0], table[y1 + x1]
    above, below = a + (b - a) * u, c + (d - c) * u
    return above + (below - above) * v


def _hash(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """(...) numbers 0..1 that look random, one for each pair of whole numbers x and y."""
    right, down = _start(seed)
    column = (x.to(torch.int32) + right) & (_TABLE - 1)
    row = (y.to(torch.int32) + down) & (_TABLE - 1)
    return _table(x.device)[row * _TABLE + column]


def _start(seed: int) -> tuple[int, int]:
    """Where in the table to start reading: far apart for seeds that follow each other."""
    mixed = seed * 2654435761 & 0xFFFFFFFF
    return mixed >> 24, mixed >> 16 & 0xFF


@lru_cache(maxsize=4)
def _table(device: torch.device) -> Tensor:
    """(_TABLE * _TABLE,) random numbers 0..1; a seed is a place to start reading."""
    return torch.from_numpy(np.random.default_rng(0).random(_TABLE**2, np.float32)).to(device)


def _grain(rows: Tensor, columns: Tensor, seed: int) -> Tensor:
    """(R, C) noise of a camera, in grey levels."""
    return (_hash(columns[None, :], rows[:, None], seed) - 0.5) * (_GRAIN * 3.46)
