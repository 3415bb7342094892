"""Axes of the report's pictures: from values to places, with round numbers marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_WIDE = 4.0  # the dearest over the cheapest, from which on a cost axis is logarithmic


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on 0..1; `marks` are the round values inside."""

    low: float
    high: float
    log: bool
    marks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where a value stands: 0 at `low`, 1 at `high`; values outside stand at the ends."""
        low, high = self.low, self.high
        value = min(max(value, low), high)
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low)


def cost_axis(values: Sequence[float]) -> Axis:
    """An axis over costs with room at both ends, logarithmic where they lie far apart."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= _WIDE:
        room = (high / low) ** 0.06
        low, high = low / room, high * room
        marks = _log_marks(low, high)
        if len(marks) >= 3:
            return Axis(low, high, True, marks)
    return _linear(low, high, room=0.06)


def share_axis(values: Sequence[float]) -> Axis:
    """An axis over shares, never beyond 0..1."""
    axis = _linear(min(values), max(values), room=0.04)
    low, high = max(axis.low, 0.0), min(axis.high, 1.0)
    return Axis(low, high, False, tuple(mark for mark in axis.marks if low <= mark <= high))


def _linear(low: float, high: float, room: float) -> Axis:
    """Room is a share of the range at each end; one value alone stands in the middle."""
    space = room * (high - low) or 0.1 * abs(high) or 0.1
    low, high = low - space, high + space
    step = _round_step((high - low) / 5)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Axis(low, high, False, tuple(count * step for count in range(first, last + 1)))


def _round_step(about: float) -> float:
    """The least of 1, 2 or 5 times a power of ten that is not below `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= about * (1 - 1e-9))


def _log_marks(low: float, high: float) -> tuple[float, ...]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [mark for mark in marks if low <= mark <= high]
    if len(inside) > 7:
        inside = [mark for mark in inside if math.log10(mark) % 1 < 1e-9]
    return tuple(inside)
