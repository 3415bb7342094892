"""Cuts a film of so many beats into stretches in which things happen."""

from __future__ import annotations

from collections.abc import Sequence

from sparsight.world.dice import Dice


def parts(dice: Dice, total: int, least: Sequence[int]) -> list[int]:
    """`total` cut at random into whole parts, each at least its `least`."""
    spare = total - sum(least)
    assert spare >= 0, (total, least)
    cuts = sorted(dice.below(spare + 1) for _ in least[1:])
    edges = [0, *cuts, spare]
    return [low + b - a for low, a, b in zip(least, edges, edges[1:], strict=False)]


def timetable(dice: Dice, beats: int, count: int, *, gap: int = 0) -> list[tuple[int, int]]:
    """`count` stretches (start, end) of beats, one after the other; nothing starts in beat 0.

    Each takes at least two beats where there is time, else one; `gap` beats lie between them
    where there is time. None takes more than a quarter of the film, or three beats.
    """
    room = beats - 2
    length = 2 if 2 * count + gap * (count - 1) <= room else 1
    if length * count + gap * (count - 1) > room:
        gap = 0
    drawn = parts(dice, room, [0, *[length, gap] * (count - 1), length, 0])
    most = max(3, beats // 4)
    found, at = [], 1
    for i in range(count):
        at += drawn[2 * i]
        found.append((at, at + min(drawn[2 * i + 1], most)))
        at += drawn[2 * i + 1]
    return found
