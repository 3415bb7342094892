"""Sprites on the device that paints, in stacks of one size, so that many are sampled in one go."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from sparsight.world.sprites import CORE, MARGIN, Sprite

_ROOM = 2**25  # bytes that a stack may take before it is cleared


@dataclass(frozen=True)
class Shelf:
    """Sprites of one make: `channels` 1 (outline), 2 (outline and ink) or 4 (outline and RGB),
    `width` texels wide."""

    channels: int
    width: int


def shelf_of(sprite: Sprite) -> Shelf:
    """Where a sprite belongs. Signs are as wide as their text: they share a few widths."""
    if sprite.ink is not None:
        return Shelf(2, -(-sprite.outline.shape[1] // 64) * 64)
    return Shelf(1 if sprite.photo is None else 4, sprite.outline.shape[1])


@dataclass(frozen=True)
class Wanted:
    """A sprite, averaged over squares of 2 ** blur texels if it is a photograph: what is seen of
    it when small. `key` tells it from all others."""

    key: Hashable
    sprite: Sprite
    blur: int = 0


class Stack:
    """The pictures (n, channels, CORE + 2 MARGIN, width) float32 of a shelf on a device."""

    def __init__(self, shelf: Shelf, device: torch.device) -> None:
        shape = (shelf.channels, CORE + 2 * MARGIN, shelf.width)
        self.pictures = torch.empty(0, *shape, device=device)
        self._room = max(_ROOM // (4 * int(np.prod(shape))), 1)
        self._places: dict[tuple[Hashable, int], int] = {}

    def hold(self, wanted: Sequence[Wanted]) -> list[int]:
        """Bring sprites in and say where each lies in `pictures`, which may be a new tensor then.
        They stay until a call that finds no room beside them."""
        keys = [(want.key, want.blur) for want in wanted]
        needed = dict(zip(keys, wanted, strict=True))
        missing = [key for key in needed if key not in self._places]
        if missing and len(self._places) + len(missing) > max(self._room, len(needed)):
            self._places.clear()
            missing = list(needed)
        if missing:
            first = len(self._places)
            last = first + len(missing)
            if last > len(self.pictures):  # twice as large each time, so that copies are few
                grown = self.pictures.new_empty(max(last, 2 * first), *self.pictures.shape[1:])
                grown[:first] = self.pictures[:first]
                self.pictures = grown
            new = np.stack([self._picture(needed[key]) for key in missing])
            self.pictures[first:last] = torch.from_numpy(new).to(self.pictures.device)
            self._places.update(zip(missing, range(first, last), strict=True))
        return [self._places[key] for key in keys]

    def _picture(self, wanted: Wanted) -> np.ndarray:
        sprite = wanted.sprite
        picture = np.full(self.pictures.shape[1:], -1, np.float32)  # far outside
        width = sprite.outline.shape[1]
        picture[0, :, :width] = sprite.outline
        if sprite.ink is not None:
            picture[1, :, :width] = sprite.ink
        if sprite.photo is not None:
            picture[1:] = np.moveaxis(_blurred(sprite.photo, 2**wanted.blur), -1, 0)
        return picture


def _blurred(photo: np.ndarray, side: int) -> np.ndarray:
    tall, wide, _ = photo.shape
    small = photo.reshape(tall // side, side, wide // side, side, 3).mean((1, 3))
    return small.repeat(side, 0).repeat(side, 1)


@lru_cache(maxsize=64)
def stack(shelf: Shelf, device: torch.device) -> Stack:
    """The stack of a shelf; there is one on each device."""
    return Stack(shelf, device)
