"""Drafts of things, and the motions that give them their courses.

Time is counted in beats here: an event begins and ends on a beat, and every beat is the instant
of a frame, so that what happens between two beats can be told from the frames alone. Places are
relative to the anchor of the thing, which `layout` chooses last. A motion needs no knowledge of
the picture: it turns the draft's knots and returns the beat at which it is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sparsight.world.scene import DIRECTIONS, Look, Steps, Thing, Track

Clock = Callable[[float], float]

#: Shapes that a turn shows on.
POINTED = ("square", "cross", "triangle", "star")
#: Letters and digits that look the same upside down or become another one.
FLIPPABLE = frozenset("HSXZ01689")


@dataclass
class Knots:
    """A track in the making: beats (n,), rising, and values (n,)."""

    beats: list[float]
    values: list[float]

    def ramp(self, start: float, end: float, value: float) -> None:
        """Stays until `start`, then goes evenly to `value` at `end`."""
        if start > self.beats[-1]:
            self.beats.append(start)
            self.values.append(self.values[-1])
        self.beats.append(end)
        self.values.append(value)

    def at(self, beats: np.ndarray) -> np.ndarray:
        """Values (B,) at beats (B,), or (1,) while nothing moves."""
        if len(self.beats) == 1:
            return np.array(self.values)
        return np.interp(beats, self.beats, self.values)

    def track(self, clock: Clock, shift: float = 0.0) -> Track:
        """The track, its values moved by `shift`; `clock` tells the seconds of a beat."""
        return Track(tuple(map(clock, self.beats)), tuple(value + shift for value in self.values))


def still(value: float) -> Knots:
    return Knots([0.0], [value])


@dataclass
class Draft:
    """A thing before it has its place.

    `looks` are (beat, look) pairs; `x`, `y` are relative to `anchor`; `shown` are stretches of
    beats, its end None for ever; `inside` is the stretch of beats in which the whole thing must
    be in the picture. `spot` fixes a coordinate of the anchor in advance, None leaves it open.
    `depth` orders the things: larger ones lie in front.
    """

    looks: list[tuple[int, Look]]
    height: float
    x: Knots = field(default_factory=lambda: still(0.0))
    y: Knots = field(default_factory=lambda: still(0.0))
    scale: Knots = field(default_factory=lambda: still(1.0))
    angle: Knots = field(default_factory=lambda: still(0.0))
    shown: list[tuple[int, int | None]] = field(default_factory=lambda: [(0, None)])
    inside: tuple[int, int | None] = (0, None)
    spot: tuple[float | None, float | None] = (None, None)
    anchor: tuple[float, float] = (0.0, 0.0)
    depth: float = 0.0

    @property
    def look(self) -> Look:
        return self.looks[0][1]

    @property
    def width(self) -> float:
        return self.height * self.look.aspect

    def thing(self, clock: Clock) -> Thing:
        """The finished thing; `clock` tells the seconds of a beat."""
        return Thing(
            Steps(tuple(clock(beat) for beat, _ in self.looks), tuple(k for _, k in self.looks)),
            self.height,
            self.x.track(clock, self.anchor[0]),
            self.y.track(clock, self.anchor[1]),
            self.scale.track(clock),
            self.angle.track(clock),
            tuple(
                (clock(start), math.inf if end is None else clock(end)) for start, end in self.shown
            ),
        )


@dataclass(eq=False)
class Deed:
    """An event in the making, in beats."""

    action: str
    draft: Draft
    start: int
    end: int
    detail: str = ""
    other: Draft | None = None
    times: int = 1
    cause: Deed | None = None


def heading(direction: str) -> tuple[float, float]:
    """The unit vector (x, y) of a direction."""
    x, y = DIRECTIONS[direction]
    length = math.hypot(x, y)
    return x / length, y / length


def travel(draft: Draft, start: float, end: float, direction: str, way: float) -> None:
    """Goes `way` units in a direction."""
    x, y = heading(direction)
    if x:
        draft.x.ramp(start, end, draft.x.values[-1] + x * way)
    if y:
        draft.y.ramp(start, end, draft.y.values[-1] + y * way)


def bounce(draft: Draft, start: int, period: int, times: int, way: float) -> int:
    """Hops up and comes down `times` times, `period` beats each; the top falls on a beat."""
    base = draft.y.values[-1]
    for hop in range(start, start + times * period, period):
        draft.y.ramp(hop, hop + period // 2, base - way)
        draft.y.ramp(hop + period // 2, hop + period, base)
    return start + times * period


def blink(draft: Draft, start: int, period: int, times: int) -> int:
    """Vanishes `times` times, for half of each `period` of beats; over when it is back for the
    last time, so the event ends before the last period does."""
    hidden = period // 2
    first, _ = draft.shown.pop()
    for begin in range(start, start + times * period, period):
        draft.shown.append((first, begin))
        first = begin + hidden
    draft.shown.append((first, None))
    return first


def pulse(draft: Draft, start: int, period: int, times: int, factor: float) -> int:
    """Grows (or shrinks) by `factor` and goes back, `times` times, `period` beats each; the
    extreme falls on a beat."""
    base = draft.scale.values[-1]
    for begin in range(start, start + times * period, period):
        draft.scale.ramp(begin, begin + period // 2, base * factor)
        draft.scale.ramp(begin + period // 2, begin + period, base)
    return start + times * period


def resize(draft: Draft, start: int, end: int, factor: float) -> None:
    draft.scale.ramp(start, end, draft.scale.values[-1] * factor)


def whirl(draft: Draft, start: int, period: int, times: int) -> int:
    """Turns fully `times` times, `period` >= 3 beats each. Only turns of things without symmetry
    can be counted."""
    end = start + times * period
    draft.angle.ramp(start, end, draft.angle.values[-1] + 360 * times)
    return end


def spin(draft: Draft, start: int, end: int, step: float) -> None:
    """Turns by `step` degrees a beat; steps of 35 to 60 degrees show on every shape but round
    ones."""
    draft.angle.ramp(start, end, draft.angle.values[-1] + step * (end - start))


def can_spin(look: Look) -> bool:
    """Whether a turn shows on it and leaves it what it is."""
    if look.name in ("6", "9"):
        return False
    return look.kind in ("letter", "digit", "sprite") or look.name in POINTED


def can_count_turns(look: Look) -> bool:
    """Whether full turns of it can be counted: it looks like itself only once a turn."""
    return look.kind == "sprite" or (
        look.kind in ("letter", "digit") and look.name not in FLIPPABLE
    )


def appear(draft: Draft, start: int) -> None:
    draft.shown[0] = (start, draft.shown[0][1])
    draft.inside = (start, draft.inside[1])


def come(draft: Draft, start: int, end: int, direction: str, edge: float, way: float) -> None:
    """Comes in through the edge that lies against its direction (one of four): outside at
    `start`, `way` units inside at `end`. `edge` is the picture's size along the direction."""
    x, y = DIRECTIONS[direction]
    half = (abs(x) * draft.width + abs(y) * draft.height) / 2
    place = way + half if x + y > 0 else edge - way - half
    knots = draft.x if x else draft.y
    knots.values[0] = -(x + y) * (way + 2 * half)
    knots.ramp(start, end, 0.0)
    draft.spot = (place, None) if x else (None, place)
    draft.shown[0] = (start, draft.shown[0][1])
    draft.inside = (end, None)


def leave(draft: Draft, start: int, end: int, direction: str, edge: float, way: float) -> None:
    """Leaves through the edge in its direction (one of four), which is `way` units away from its
    rim until `start`; at `end` it is just outside and gone for good."""
    x, y = DIRECTIONS[direction]
    half = (abs(x) * draft.width + abs(y) * draft.height) / 2
    place = edge - way - half if x + y > 0 else way + half
    travel(draft, start, end, direction, way + 2 * half)
    draft.spot = (place, None) if x else (None, place)
    draft.shown[-1] = (draft.shown[-1][0], end)
    draft.inside = (draft.inside[0], start + 1)


def recolor(draft: Draft, beat: int, color: str) -> None:
    old = draft.looks[-1][1]
    draft.looks.append((beat, Look(old.kind, old.name, color, old.variant, old.aspect)))
