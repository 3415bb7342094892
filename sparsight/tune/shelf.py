"""Media made on demand that are kept once made: a comparison asks about them many times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from sparsight.bench.item import Item
from sparsight.core.clip import Clip


def remembered(items: Sequence[Item], room: int) -> list[Item]:
    """The items, their media kept once made, as far as there is room for in bytes."""
    shelf = Shelf(room)

    def kept(medium: object) -> object:
        makes = callable(medium) and not isinstance(medium, Remembered)
        return Remembered(medium, shelf) if makes else medium  # type: ignore[arg-type]

    return [dataclasses.replace(item, media=tuple(map(kept, item.media))) for item in items]


class Remembered:
    """A medium that is made on demand, kept once made.

    All of one `shelf` together keep at most `room` bytes.
    """

    def __init__(self, make: Callable[[], Clip], shelf: Shelf) -> None:
        self._make, self._shelf = make, shelf
        self._clip: Clip | None = None

    def __call__(self) -> Clip:
        if self._clip is not None:
            return self._clip
        clip = self._make()
        if self._shelf.takes(clip):
            self._clip = clip
        return clip


class Shelf:
    """Room for clips in memory, in bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def takes(self, clip: Clip) -> bool:
        """Whether a clip still fits; if so its room is taken."""
        size = 3 * len(clip) * clip.size[0] * clip.size[1]
        if size > self.room:
            return False
        self.room -= size
        return True
