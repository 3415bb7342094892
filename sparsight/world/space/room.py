"""A room: solid things on its floor, seen by cameras that stand in it.

The description from which every view and every truth follow; nothing about it is random. Lengths
are in metres. The room fills (0, 0, 0) to `size`: x and y along the walls, z up.

A camera has its own axes: x to the right of its picture, y down, z ahead. A point p of the room is
at R p + t before it; the pixel in row r and column c looks along ((c + 0.5 - cx) / f,
(r + 0.5 - cy) / f, 1).

Shape suffixes: V views, K things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparsight.world.scene import COLORS

SOLIDS = ("sphere", "cube", "cylinder", "cone")

Triple = tuple[float, float, float]
Shape = Literal["sphere", "cube", "cylinder", "cone"]
FLOORS = ("checks", "tiles", "planks")
WALLS = ("plain", "bricks", "stripes", "panels")


@dataclass(frozen=True)
class Solid:
    """A thing that stands on the floor at (x, y).

    `width` is its diameter or the edge of the cube, `height` its height: the same for spheres and
    cubes. `angle` in degrees turns it around the upright axis. `color` is a key of COLORS.
    """

    shape: Shape
    color: str
    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0

    @property
    def phrase(self) -> str:
        """ "red cube"."""
        return f"{self.color} {self.shape}"

    @property
    def centre(self) -> Triple:
        return (self.x, self.y, self.height / 2)

    @property
    def reach(self) -> float:
        """The radius of the circle around its footprint."""
        return self.width / 2 * (math.sqrt(2) if self.shape == "cube" else 1)


@dataclass(frozen=True)
class Eye:
    """A pinhole camera at `place` that looks at `target`, upright. `angle` in degrees is what it
    sees of the shorter side of its picture."""

    place: Triple
    target: Triple
    angle: float

    def intrinsics(self, height: int, width: int) -> np.ndarray:
        """(3, 3) float64 for a picture of this many pixels."""
        focal = min(height, width) / 2 / math.tan(math.radians(self.angle) / 2)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])

    def extrinsics(self) -> np.ndarray:
        """(3, 4) float64, [R | t]: from the room to the camera."""
        place = np.array(self.place)
        ahead = np.array(self.target) - place
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        turn = np.stack([right, np.cross(ahead, right), ahead])
        return np.concatenate([turn, -(turn @ place)[:, None]], axis=1)


@dataclass(frozen=True)
class Surface:
    """A floor or wall: `pattern` in two colors (red, green, blue), its irregularities drawn from
    `seed`. Patterns have real measures, so that distances can be told: checks and tiles are 0.5
    wide, planks and stripes 0.25, bricks 0.5 by 0.25."""

    pattern: str
    color: tuple[int, int, int]
    second: tuple[int, int, int]
    seed: int


@dataclass(frozen=True)
class Room:
    """Everything that there is to see. `seed` and `split` say where it comes from; `aspect` is
    width over height of each picture; `lamp` hangs at a point below the ceiling and shines
    `light` times as bright as usual."""

    seed: int
    split: str
    size: Triple
    solids: tuple[Solid, ...]
    eyes: tuple[Eye, ...]
    floor: Surface
    walls: Surface
    lamp: Triple
    light: float = 1.0
    aspect: float = 1.0

    def pixels(self, side: int) -> tuple[int, int]:
        """(height, width) of each picture when its shorter side has `side` pixels."""
        return (round(side * max(1.0, 1 / self.aspect)), round(side * max(1.0, self.aspect)))

    def intrinsics(self, side: int) -> np.ndarray:
        """(V, 3, 3) float64."""
        return np.stack([eye.intrinsics(*self.pixels(side)) for eye in self.eyes])

    def extrinsics(self) -> np.ndarray:
        """(V, 3, 4) float64, [R | t]: from the room to each camera."""
        return np.stack([eye.extrinsics() for eye in self.eyes])

    def centres(self) -> np.ndarray:
        """(K, 3) float64 centres of the things."""
        return np.array([solid.centre for solid in self.solids])

    def boxes(self) -> np.ndarray:
        """(K, 7) float64, the box around each thing: its centre x, y, z, its size along x, y, z
        before it is turned, and its turn around the upright axis in radians."""
        return np.array(
            [
                (*s.centre, s.width, s.width, s.height, math.radians(s.angle) % (2 * math.pi))
                for s in self.solids
            ]
        )


def held_out_solid(shape: str, color: str) -> bool:
    """Whether this pair is only in the split "combos": one in eight, another color for each."""
    return tuple(COLORS).index(color) == (2 * SOLIDS.index(shape) + 1) % len(COLORS)
