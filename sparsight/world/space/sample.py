"""Rooms drawn from a seed."""

from __future__ import annotations

import math
from zlib import crc32

import numpy as np

from sparsight.core.errors import UserError
from sparsight.world.scene import COLORS
from sparsight.world.space.rays import Sight, sight
from sparsight.world.space.room import (
    FLOORS,
    SOLIDS,
    WALLS,
    Eye,
    Room,
    Solid,
    Surface,
    Triple,
    held_out_solid,
)
from sparsight.world.splits import split_index

MOST_THINGS, MOST_VIEWS = 6, 8
#: A thing counts as seen in a view that shows this much of its outline, and when it fills this
#: much of the picture.
CLEAR, LARGE = 0.6, 0.003

_WISHES = 60  # draws after which a room may be as it comes: a wide view can hardly miss anything
_PATIENCE = 2000  # draws before a room is given up; one in a hundred needs more than 30
_WALK = 0.15  # metres between things
_APART = math.radians(20)  # between cameras, seen from the middle

_LOOKS = tuple((shape, color) for shape in SOLIDS for color in COLORS)


def sample_room(
    seed: int,
    split: str = "train",
    *,
    things: int | None = None,
    views: int | None = None,
    aspect: float = 1.0,
) -> Room:
    """A room with 1 to 6 things of different looks and 2 to 8 cameras; each thing is seen clearly
    in one view at least.

    `split` is one of SPLITS; rooms of "combos" hold a thing of a look that the others never show
    (`held_out_solid`). Raises `UserError` for what is out of range.
    """
    _check(seed, things, views, aspect)
    rng = np.random.default_rng([split_index(split), crc32(b"room"), seed])
    things = int(rng.integers(1, MOST_THINGS + 1)) if things is None else things
    views = int(rng.integers(2, MOST_VIEWS + 1)) if views is None else views
    looks = _looks(split, things, rng)
    floor, walls = _surfaces(rng)
    light = float(rng.uniform(0.92, 1.15))
    # In half of the rooms no view shows all: to count, the views have to be put together.
    parted = things > 1 and rng.random() < 0.5
    for attempt in range(_PATIENCE):
        size = (rng.uniform(5, 8), rng.uniform(5, 8), rng.uniform(2.6, 3.2))
        solids = _place(looks, size, rng)
        if solids is None:
            continue
        eyes = _eyes(views, size, solids if parted and attempt <= _WISHES else [], rng)
        if not _clear_of(eyes, solids):
            continue
        x, y = (s * rng.uniform(0.35, 0.65) for s in size[:2])
        lamp = (x, y, size[2] - 0.1)
        placed = (tuple(solids), tuple(eyes), floor, walls)
        room = Room(seed, split, size, *placed, lamp, light, aspect)
        found = sight(room)
        as_wished = parted != bool((found.share > 0).all(1).any()) or attempt > _WISHES
        if as_wished and clear(found).any(0).all():
            return room
    raise AssertionError(f"no room for seed {seed}: {things} things, {views} views")


def clear(found: Sight) -> np.ndarray:
    """(V, K) bool: which things are seen well in which view."""
    return (found.share > CLEAR) & (found.area > LARGE)


def _check(seed: int, things: int | None, views: int | None, aspect: float) -> None:
    if seed < 0:
        raise UserError(f"seed {seed} is out of range: 0 or more")
    if things is not None and not 1 <= things <= MOST_THINGS:
        raise UserError(f"things {things} is out of range: from 1 to {MOST_THINGS}")
    if views is not None and not 2 <= views <= MOST_VIEWS:
        raise UserError(f"views {views} is out of range: from 2 to {MOST_VIEWS}")
    if not 1 / 4 <= aspect <= 4:
        raise UserError(f"aspect {aspect:g} is out of range: from 0.25 to 4")


def _looks(split: str, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """`count` different pairs of shape and color, in "combos" with a held-out one among them."""
    known = [look for look in _LOOKS if not held_out_solid(*look)]
    fresh = [look for look in _LOOKS if held_out_solid(*look)]
    if split != "combos":
        return [known[i] for i in rng.permutation(len(known))[:count]]
    rest = [known[i] for i in rng.permutation(len(known))[: count - 1]]
    looks = [fresh[int(rng.integers(len(fresh)))], *rest]
    return [looks[i] for i in rng.permutation(count)]


def _surfaces(rng: np.random.Generator) -> tuple[Surface, Surface]:
    """Muted, so that only things have colors with a name."""
    made = []
    for patterns in (FLOORS, WALLS):
        base = rng.uniform(105, 185) + rng.uniform(-14, 14, 3)
        if patterns is FLOORS:
            base += np.array((14.0, 0.0, -14.0)) * rng.uniform(0, 1.6)
        other = base * rng.uniform(0.66, 0.8) + rng.uniform(-6, 6, 3)
        a, b = (tuple(int(v) for v in rgb) for rgb in (base, other))
        pattern = patterns[int(rng.integers(len(patterns)))]
        made.append(Surface(pattern, a, b, int(rng.integers(2**31))))  # type: ignore[arg-type]
    return made[0], made[1]


def _place(
    looks: list[tuple[str, str]], size: Triple, rng: np.random.Generator
) -> list[Solid] | None:
    """Things of these looks on the floor, clear of the walls and each other."""
    placed: list[Solid] = []
    for shape, color in looks:
        even = shape in ("sphere", "cube")
        width = float(rng.uniform(0.4, 0.85 if even else 0.75))
        height = width if even else float(rng.uniform(0.5, 1.1))
        angle = float(rng.uniform(0, 90)) if shape == "cube" else 0.0
        for _ in range(20):
            x, y = (float(rng.uniform(0.9, s - 0.9)) for s in size[:2])
            solid = Solid(shape, color, x, y, width, height, angle)  # type: ignore[arg-type]
            if all(math.hypot(x - o.x, y - o.y) > solid.reach + o.reach + _WALK for o in placed):
                placed.append(solid)
                break
        else:
            return None
    return placed


def _eyes(count: int, size: Triple, aims: list[Solid], rng: np.random.Generator) -> list[Eye]:
    """Cameras along the walls that look across the room from different sides; each looks closely
    at one of `aims`, where there are any."""
    gap = 2 * math.pi / count
    slack = gap - _APART
    start = rng.uniform(0, 2 * math.pi)
    turns = [start + i * gap + rng.uniform(-0.5, 0.5) * slack for i in range(count)]
    eyes = []
    for turn in (turns[i] for i in rng.permutation(count)):
        ahead = np.array((math.cos(turn), math.sin(turn)))
        half = np.array(size[:2]) / 2
        far = float((half / np.abs(ahead).clip(1e-6)).min()) - rng.uniform(0.15, 1.2)
        place = half + ahead * far
        target, angle = half + rng.uniform(-1, 1, 2), rng.uniform(48, 70)
        if aims:
            aim = aims[int(rng.integers(len(aims)))]
            target, angle = np.array((aim.x, aim.y)) + rng.uniform(-0.5, 0.5, 2), angle * 0.75
        eyes.append(
            Eye(
                (float(place[0]), float(place[1]), float(rng.uniform(1.3, 2.3))),
                (float(target[0]), float(target[1]), float(rng.uniform(0.2, 0.6))),
                float(angle),
            )
        )
    return eyes


def _clear_of(eyes: list[Eye], solids: list[Solid]) -> bool:
    """Whether no thing stands right before a camera."""
    return all(
        math.dist(eye.place[:2], (solid.x, solid.y)) > solid.reach + 0.6
        for eye in eyes
        for solid in solids
    )
