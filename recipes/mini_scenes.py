"""Synthetic scenes with exact ground truth: coloured shapes and letters, still or moving.

Time runs from 0 (first frame) to 1 (last frame), so that a film of any length shows the same
scene. Space is in pixels of a SIDE x SIDE picture, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE = 112
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (250, 135, 20),
    "yellow": (245, 230, 50),
    "green": (35, 165, 60),
    "blue": (40, 80, 225),
    "purple": (155, 50, 195),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
LETTERS = tuple("ACHKLMSTXZ")
KINDS = SHAPES + LETTERS
SPLITS = {"train": 0, "val": 1, "test": 2}

Box = tuple[int, int, int, int]

_TIMES = [step / 14 for step in range(15)]  # when two moving things are checked for contact


@dataclass(frozen=True)
class Thing:
    """One coloured shape or letter.

    `start` is its centre when it appears, `travel` the way it goes until time 1 (pixels),
    `size` the side of its square box in pixels, `appear` the time it appears and then stays.
    """

    kind: str
    color: str
    size: int
    start: tuple[float, float]
    travel: tuple[float, float] = (0.0, 0.0)
    appear: float = 0.0

    @property
    def is_letter(self) -> bool:
        return self.kind in LETTERS

    @property
    def noun(self) -> str:
        return f"letter {self.kind}" if self.is_letter else self.kind

    @property
    def name(self) -> str:
        return f"{self.color} {self.noun}"

    @property
    def motion(self) -> str:
        """left, right, up, down or still."""
        dx, dy = self.travel
        if dx == dy == 0:
            return "still"
        if abs(dx) > abs(dy):
            return "right" if dx > 0 else "left"
        return "down" if dy > 0 else "up"

    def center(self, time: float) -> tuple[float, float]:
        done = (time - self.appear) / (1 - self.appear)
        return self.start[0] + self.travel[0] * done, self.start[1] + self.travel[1] * done

    def box(self, time: float) -> Box | None:
        """(left, top, right, bottom) in whole pixels, or None before the thing appears."""
        if time < self.appear:
            return None
        x, y = self.center(time)
        left, top = round(x - self.size / 2), round(y - self.size / 2)
        return left, top, left + self.size, top + self.size


@dataclass(frozen=True)
class Scene:
    """One to four things on a textured background. `frames` is 1 for a still picture."""

    things: tuple[Thing, ...]
    frames: int
    background: int  # seed of the texture and of the pixel noise

    @property
    def is_film(self) -> bool:
        return self.frames > 1


def sample_scene(seed: int, split: str, film: bool, frames: int = 8) -> Scene:
    """The scene number `seed` of a split ("train", "val" or "test"); the same arguments always
    give the same scene, and two splits never share a random stream."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose train, val or test")
    rng = np.random.default_rng([SPLITS[split], int(film), seed])
    count = int(rng.integers(1, 4 if film else 5))
    looks = _looks(rng, count)
    appears = _appear_times(rng, count) if film else [0.0] * count
    while (things := _layout(rng, looks, appears, film)) is None:
        pass
    return Scene(things, frames if film else 1, int(rng.integers(2**31)))


def sample_crowd(seed: int, split: str) -> Scene:
    """A still picture of five to nine things on a loose 3 x 3 grid, all kinds equally often. Too
    full to ask about, but it teaches a tower much per picture."""
    rng = np.random.default_rng([SPLITS[split], 2, seed])
    things = []
    for cell in rng.permutation(9)[: rng.integers(5, 10)].tolist():
        size = int(rng.integers(24, 36))
        x, y = (
            float(np.clip(SIDE / 6 * (2 * at + 1) + rng.uniform(-1, 1) * (38 - size) / 2, *edges))
            for at, edges in zip(
                (cell % 3, cell // 3), [(size / 2, SIDE - size / 2)] * 2, strict=True
            )
        )
        kind, color = str(rng.choice(KINDS)), str(rng.choice(list(COLORS)))
        things.append(Thing(kind, color, size, (x, y)))
    return Scene(tuple(things), 1, int(rng.integers(2**31)))


def _layout(
    rng: np.random.Generator, looks: list[tuple[str, str]], appears: list[float], film: bool
) -> tuple[Thing, ...] | None:
    """Places one thing after the other clear of those before; None when one finds no room."""
    things: list[Thing] = []
    for (kind, color), appear in zip(looks, appears, strict=True):
        for _ in range(20):
            thing = _place(rng, kind, color, appear, film)
            if not any(_collide(thing, other) for other in things):
                things.append(thing)
                break
        else:
            return None
    return tuple(things)


def _looks(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Kind and color of each thing: all pairs differ, at most one letter, and often two things
    of one color or one shape, so that counting by color or shape has other answers than one."""
    kinds = [str(rng.choice(SHAPES)) for _ in range(count)]
    colors = [str(rng.choice(list(COLORS))) for _ in range(count)]
    if count > 1:
        twin = rng.random()
        if twin < 0.2:
            colors[1] = colors[0]
        elif twin < 0.4:
            kinds[1] = kinds[0]
    if rng.random() < 0.5:
        kinds[int(rng.integers(count))] = str(rng.choice(LETTERS))
    looks = list(zip(kinds, colors, strict=True))
    return looks if len(set(looks)) == count else _looks(rng, count)


def _appear_times(rng: np.random.Generator, count: int) -> list[float]:
    """All things from the start, or one after the other with gaps wide enough for 4 frames."""
    if rng.random() < 0.4:
        return [0.0] * count
    slots = rng.permutation([0.0, 0.36, 0.69])[:count]
    slots = slots - slots.min()  # something is there from the first frame
    return [float(slot + rng.uniform(-0.03, 0.03)) if slot else 0.0 for slot in slots]


def _place(rng: np.random.Generator, kind: str, color: str, appear: float, film: bool) -> Thing:
    size = int(rng.integers(24, 34) if film else rng.integers(26, 39))
    travel = np.zeros(2)
    if film and rng.random() < 0.6:
        travel[rng.integers(2)] = rng.choice([-1, 1]) * rng.uniform(32, 60)
    reach = SIDE - size - 4 - np.abs(travel)  # room for the start, so that the end fits too
    start = size / 2 + 2 + np.maximum(-travel, 0) + rng.random(2) * reach
    x, y = start.tolist()
    dx, dy = travel.tolist()
    return Thing(kind, color, size, (x, y), (dx, dy), appear)


def _collide(a: Thing, b: Thing, gap: int = 3) -> bool:
    """Whether two things come closer than `gap` pixels at any time both are there."""
    moving = a.motion != "still" or b.motion != "still"
    for time in _TIMES if moving else (1.0,):
        box, other = a.box(time), b.box(time)
        if box is None or other is None:
            continue
        apart_x = box[2] + gap <= other[0] or other[2] + gap <= box[0]
        apart_y = box[3] + gap <= other[1] or other[3] + gap <= box[1]
        if not (apart_x or apart_y):
            return True
    return False
