"""How many tokens take part in each layer: shares of the original number, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence


def sigmoid_schedule(depth: int, steepness: float, centre: float, floor: float) -> list[float]:
    """floor + (1 - floor) / (1 + exp(steepness * (l - centre))) for the layers l = 1 to `depth`.

    The first layer always sees everything. A large steepness is one cut at the centre.
    """
    return [
        1.0 if layer == 1 else floor + (1 - floor) * _falling(steepness * (layer - centre))
        for layer in range(1, depth + 1)
    ]


def sigmoid_of_mean(depth: int, mean: float, steepness: float, floor: float) -> list[float]:
    """The sigmoid schedule whose shares have this mean, by bisection of its centre.

    Raises `ValueError` for a mean below what the floor and the first layer take alone.
    """
    least = (1 + (depth - 1) * floor) / depth
    if not least <= mean <= 1:
        raise ValueError(f"the mean share must lie between {least:.4g} and 1")
    if mean == 1:
        return [1.0] * depth
    low, high = 1 - 50 / steepness, depth + 50 / steepness
    for _ in range(200):
        centre = (low + high) / 2
        shares = sigmoid_schedule(depth, steepness, centre, floor)
        low, high = (centre, high) if sum(shares) < mean * depth else (low, centre)
    return shares


def in_blocks(shares: Sequence[float], size: int) -> list[float]:
    """A schedule that changes every `size` layers only, of the same mean; the first stays alone."""
    blocks = [shares[at : at + size] for at in range(1, len(shares), size)]
    means = [sum(block) / len(block) for block in blocks for _ in block]
    return [shares[0], *means]


def _falling(x: float) -> float:
    """1 / (1 + exp(x)) for any x."""
    return math.exp(-x) / (1 + math.exp(-x)) if x > 0 else 1 / (1 + math.exp(x))
