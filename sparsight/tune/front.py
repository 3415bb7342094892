"""What is worth choosing from: points that no other beats in cost and gain at once."""

from __future__ import annotations

from collections.abc import Sequence


def unbeaten(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points (cost, gain) that no other one beats: cheaper or as cheap with more gain, or
    cheaper with as much. Cheapest first; of equal points the first alone."""
    order = sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1], at))
    chosen: list[int] = []
    for at in order:
        if not chosen or points[at][1] > points[chosen[-1]][1]:
            chosen.append(at)
    return chosen
