"""Random draws, fast: one block of numbers from numpy, handed out as plain Python values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

V = TypeVar("V")

_BLOCK = 96  # a scene takes about this many draws; a call of numpy for each would cost most of it


class Dice:
    """Draws from one random stream; the same seeds always give the same draws."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.rng = np.random.default_rng(list(seeds))
        self._left: list[float] = []

    def random(self) -> float:
        """Uniform from 0 to 1, 1 excluded."""
        if not self._left:
            self._left = self.rng.random(_BLOCK).tolist()
        return self._left.pop()

    def chance(self, share: float) -> bool:
        """True in `share` of the draws."""
        return self.random() < share

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def below(self, bound: int) -> int:
        """0 to bound - 1."""
        return int(self.random() * bound)

    def whole(self, low: int, high: int) -> int:
        """low to high, both included."""
        return low + self.below(high - low + 1)

    def pick(self, items: Sequence[V]) -> V:
        return items[self.below(len(items))]

    def shuffled(self, items: Iterable[V]) -> list[V]:
        """A new list in random order."""
        out = list(items)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out

    def seed(self) -> int:
        """For something that draws by itself, such as a texture."""
        return self.below(2**31)
