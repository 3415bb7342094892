"""Where rays meet the things and walls of a room, exactly, in torch on any device.

Every step is elementwise and uses only operations that round the same way everywhere on one
device, so a pixel does not depend on what is cast along with it.

Shape suffixes: V views, K things, ... any shape of rays; vectors are (3, ...).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsight.world.space.room import Room, Solid

_NEAR = 1e-4  # metres: a ray does not meet what it starts on
_NONE = math.inf


@dataclass(frozen=True)
class Hits:
    """What each ray meets first. `depth` (...): how often the ray's direction leads there, along
    the axis of the camera for the rays of `rays`. `owner` (...) uint8: 0 the room, k + 1 thing k.
    `points` (3, ...) in the room."""

    depth: Tensor
    owner: Tensor
    points: Tensor


def rays(room: Room, side: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Origins (3, V, 1, 1) and directions (3, V, R, C) of the rays of all cameras through `rows`
    (R,) and `columns` (C,), in pixels of pictures whose shorter side has `side`, fractions
    included.

    A direction is one metre long along the axis of its camera.
    """
    origins, ways = [], []
    for eye in room.eyes:
        lens, turn = eye.intrinsics(*room.pixels(side)), eye.extrinsics()
        x = ((columns - lens[0, 2]) / lens[0, 0])[None, :]
        y = ((rows - lens[1, 2]) / lens[1, 1])[:, None]
        ways.append(torch.stack([x * turn[0, i] + y * turn[1, i] + turn[2, i] for i in range(3)]))
        origins.append(torch.tensor(eye.place, dtype=torch.float32, device=rows.device))
    return torch.stack(origins, dim=1)[..., None, None], torch.stack(ways, dim=1)


def cast(room: Room, origin: Tensor, way: Tensor) -> Hits:
    """Follow rays from `origin` (3, ...) in the room along `way` (3, ...)."""
    depth = shell(room, origin, way)
    owner = torch.zeros(depth.shape, dtype=torch.uint8, device=depth.device)
    for place, solid in enumerate(room.solids):
        found = meet(solid, origin, way)
        nearer = found < depth
        depth = torch.where(nearer, found, depth)
        owner = torch.where(nearer, place + 1, owner)
    return Hits(depth, owner, origin + way * depth)


def blocked(room: Room, origin: Tensor, way: Tensor) -> Tensor:
    """(...) bool: whether a thing stands between `origin` and `origin + way`, both (3, ...)."""
    found = torch.zeros(way.shape[1:], dtype=torch.bool, device=way.device)
    for solid in room.solids:
        found |= meet(solid, origin, way) < 1
    return found


def shell(room: Room, origin: Tensor, way: Tensor) -> Tensor:
    """(...) how far it is to the floor, walls or ceiling from inside the room."""
    far = [_slab(origin[i], way[i], 0.0, room.size[i])[1] for i in range(3)]
    return torch.minimum(torch.minimum(far[0], far[1]), far[2])


def meet(solid: Solid, origin: Tensor, way: Tensor) -> Tensor:
    """(...) how far it is to the outside of one thing, infinite where the ray misses it."""
    ox, oy, oz = (origin[0] - solid.x, origin[1] - solid.y, origin[2])
    dx, dy, dz = way
    half = solid.width / 2
    if solid.shape == "sphere":
        into, out = _round(ox, oy, oz - half, dx, dy, dz, half)
    else:
        into, out = _slab(oz, dz, 0.0, solid.height)
        if solid.shape == "cube":
            cos, sin = math.cos(math.radians(solid.angle)), math.sin(math.radians(solid.angle))
            sides = [
                _slab(ox * cos + oy * sin, dx * cos + dy * sin, -half, half),
                _slab(oy * cos - ox * sin, dy * cos - dx * sin, -half, half),
            ]
        elif solid.shape == "cylinder":
            sides = [_round(ox, oy, 0.0, dx, dy, 0.0, half)]
        else:
            sides = [_cone(ox, oy, oz - solid.height, dx, dy, dz, half / solid.height)]
        for low, high in sides:
            into, out = torch.maximum(into, low), torch.minimum(out, high)
    return torch.where((into < out) & (into > _NEAR), into, _NONE)


def _slab(o: Tensor, d: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves low..high along one axis."""
    # A ray along the slab would divide by 0; one that all but runs along it is as good.
    d = torch.where(d.abs() < 1e-9, torch.where(d < 0, -1e-9, 1e-9), d)
    a, b = (low - o) / d, (high - o) / d
    return torch.minimum(a, b), torch.maximum(a, b)


def _round(
    ox: Tensor, oy: Tensor, oz: Tensor | float, dx: Tensor, dy: Tensor, dz: Tensor | float, r: float
) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves the sphere (or, without z, cylinder) around the origin."""
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    # The point of the ray nearest to the axis first: b * b - a * c loses digits far away.
    near = -b / a
    px, py, pz = ox + near * dx, oy + near * dy, oz + near * dz
    inside = r * r - (px * px + py * py + pz * pz)
    reach = (inside.clamp(min=0) / a).sqrt()
    miss = inside <= 0
    return torch.where(miss, _NONE, near - reach), torch.where(miss, -_NONE, near + reach)


def _cone(
    ox: Tensor, oy: Tensor, oz: Tensor, dx: Tensor, dy: Tensor, dz: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves the endless cone that opens downwards from the origin."""
    steep = slope * slope
    a = dx * dx + dy * dy - steep * dz * dz
    a = torch.where(a.abs() < 1e-9, torch.full_like(a, 1e-9), a)
    b = ox * dx + oy * dy - steep * oz * dz
    c = ox * ox + oy * oy - steep * oz * oz
    root = (b * b - a * c).clamp(min=0).sqrt()
    miss = b * b - a * c <= 0
    first, second = (-b - root) / a, (-b + root) / a
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    # A ray steeper than the cone is inside it up to one crossing or from the other on; the half
    # that opens downwards is the one it reaches going down.
    falls = dz < 0
    steep_ray = a < 0
    into = torch.where(steep_ray, torch.where(falls, high, -_NONE), low)
    out = torch.where(steep_ray, torch.where(falls, _NONE, low), high)
    return torch.where(miss, _NONE, into), torch.where(miss, -_NONE, out)


def normals(solid: Solid, points: Tensor) -> Tensor:
    """(3, ...) unit vectors that point out of a thing at `points` (3, ...) on its surface."""
    x, y, z = points[0] - solid.x, points[1] - solid.y, points[2]
    half = solid.width / 2
    if solid.shape == "sphere":
        return torch.stack([x, y, z - half]) / half
    up = torch.zeros_like(points)
    up[2] = torch.where(z < solid.height / 2, -1.0, 1.0)
    if solid.shape == "cube":
        cos, sin = math.cos(math.radians(solid.angle)), math.sin(math.radians(solid.angle))
        u, v, w = x * cos + y * sin, y * cos - x * sin, z - half
        along_u, along_v = u.sign(), v.sign()
        flat = torch.zeros_like(x)
        side_u = torch.stack([along_u * cos, along_u * sin, flat])
        side_v = torch.stack([-along_v * sin, along_v * cos, flat])
        side = torch.where(u.abs() > v.abs(), side_u, side_v)
        return torch.where(w.abs() > torch.maximum(u.abs(), v.abs()), up, side)
    across = (x * x + y * y).sqrt().clamp(min=1e-9)
    if solid.shape == "cylinder":
        side = torch.stack([x / across, y / across, torch.zeros_like(x)])
        on_top = (z - solid.height / 2).abs() / solid.height > across / solid.width
        return torch.where(on_top, up, side)
    lean = half / solid.height
    long = math.sqrt(1 + lean * lean)
    side = torch.stack([x / across, y / across, torch.full_like(x, lean)]) / long
    return torch.where(z < 1e-4, up, side)


@dataclass(frozen=True)
class Sight:
    """How well each thing is seen in each view, by a grid of rays.

    `share` (V, K): the part of its outline that is neither hidden nor outside the picture, 0..1.
    `area` (V, K): the share of the picture that it fills. `boxes` (V, K, 4): x0, y0, x1, y1 in
    shares of the picture around what is seen of it, NaN where nothing is.
    """

    share: np.ndarray
    area: np.ndarray
    boxes: np.ndarray


def sight(room: Room, side: int = 32) -> Sight:
    """Look at the room with `side` rays along the shorter side of each picture, and at as much
    again around it, where things are that stand half outside."""
    height, width = room.pixels(side)
    rows = torch.arange(-height // 2, height + height // 2) + 0.5
    columns = torch.arange(-width // 2, width + width // 2) + 0.5
    inside = ((rows > 0) & (rows < height))[:, None] & (columns > 0) & (columns < width)
    origin, way = rays(room, side, rows, columns)
    owner = cast(room, origin, way).owner
    things = [torch.isfinite(meet(solid, origin, way)).sum((1, 2)) for solid in room.solids]
    seen = torch.stack([(owner == k + 1) & inside for k in range(len(room.solids))], dim=1)
    whole, count = torch.stack(things, dim=1), seen.sum((2, 3))
    y0, y1 = _ends(seen.any(3), rows / height)
    x0, x1 = _ends(seen.any(2), columns / width)
    return Sight(
        (count / whole.clamp(min=1)).numpy(),
        (count / (height * width)).numpy(),
        torch.stack([x0, y0, x1, y1], dim=-1).numpy(),
    )


def _ends(found: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last of `places` (N,) where `found` (..., N) holds, NaN where it never does."""
    first = torch.where(found, places, math.inf).amin(-1)
    last = torch.where(found, places, -math.inf).amax(-1)
    none = ~found.any(-1)
    return first.masked_fill(none, math.nan), last.masked_fill(none, math.nan)
