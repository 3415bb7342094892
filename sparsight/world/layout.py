"""Finds a place for every thing: inside the picture, and clear of each other at every beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsight.world.dice import Dice
from sparsight.world.motions import Draft

_TRIES = 24  # places tried at once; more hardly help, a full picture needs smaller things
_GAP = 0.02  # units that stay free between things
_RIM = 0.015  # units between a thing and the edge of what the camera sees

Window = tuple[float, float, float, float]


@dataclass
class Extent:
    """Where a draft is relative to its anchor: x, y, half width, half height and whether it is
    shown, each (B,) over the beats."""

    x: np.ndarray
    y: np.ndarray
    half_w: np.ndarray
    half_h: np.ndarray
    shown: np.ndarray


def extent(draft: Draft, beats: int) -> Extent:
    """What the draft covers at each beat. A thing that turns counts as the circle around it."""
    at = np.arange(beats, dtype=float)
    tall = draft.height * draft.scale.at(at) / 2
    wide = tall * max(look.aspect for _, look in draft.looks)
    if len(draft.angle.beats) > 1 or draft.angle.values[0]:
        wide = tall = np.hypot(wide, tall)
    shown = np.zeros(beats, bool)
    for start, end in draft.shown:
        shown[start:end] = True
    if len(draft.shown) > 1:  # what blinks keeps its place to itself
        shown[draft.shown[0][0] : draft.shown[-1][1]] = True
    full = (beats,)
    return Extent(
        np.broadcast_to(draft.x.at(at), full),
        np.broadcast_to(draft.y.at(at), full),
        np.broadcast_to(wide, full),
        np.broadcast_to(tall, full),
        shown,
    )


def place(
    groups: Sequence[Sequence[Draft]],
    needed: int,
    window: Window,
    beats: int,
    dice: Dice,
    lap: float = 0.0,
) -> list[Draft] | None:
    """Gives each group an anchor, one group after the other; the drafts that found a place.

    The things of a group keep their places relative to each other and may touch. The first
    `needed` groups must find room, else the answer is None; later ones are left out when there
    is none, and may be overlapped by as much as `lap` of their height.
    """
    rows: list[list[np.ndarray]] = [[], [], [], [], []]
    found: list[Draft] = []
    for number, group in enumerate(groups):
        extents = [extent(draft, beats) for draft in group]
        spots = _anchors(group, extents, window, dice)
        if spots is not None:
            gap = _GAP if number < needed or not lap else -lap * group[0].height
            free = _free(spots, extents, rows, gap)
            at = int(free.argmax())
            if free[at]:
                x, y = spots[at].tolist()
                for draft, e in zip(group, extents, strict=True):
                    draft.anchor = (x, y)
                    for row, part in zip(
                        rows, (e.x + x, e.y + y, e.half_w, e.half_h, e.shown), strict=True
                    ):
                        row.append(part)
                found.extend(group)
                continue
        if number < needed:
            return None
    return found


def _anchors(
    group: Sequence[Draft], extents: Sequence[Extent], window: Window, dice: Dice
) -> np.ndarray | None:
    """(tries, 2) random anchors that keep the group inside; None where it is too large."""
    left, top, right, bottom = window
    low_x, low_y, high_x, high_y = -np.inf, -np.inf, np.inf, np.inf
    for draft, e in zip(group, extents, strict=True):
        held = slice(*draft.inside)
        x, y, w, h = e.x[held], e.y[held], e.half_w[held], e.half_h[held]
        low_x = max(low_x, left + _RIM - float((x - w).min()))
        high_x = min(high_x, right - _RIM - float((x + w).max()))
        low_y = max(low_y, top + _RIM - float((y - h).min()))
        high_y = min(high_y, bottom - _RIM - float((y + h).max()))
    if low_x > high_x or low_y > high_y:
        return None
    spots = dice.rng.random((_TRIES, 2))
    spots *= (high_x - low_x, high_y - low_y)
    spots += (low_x, low_y)
    fixed_x, fixed_y = group[0].spot
    if fixed_x is not None:
        spots[:, 0] = min(max(fixed_x, low_x), high_x)
    if fixed_y is not None:
        spots[:, 1] = min(max(fixed_y, low_y), high_y)
    return spots


def _free(
    spots: np.ndarray, extents: Sequence[Extent], rows: Sequence[Sequence[np.ndarray]], gap: float
) -> np.ndarray:
    """(tries,) bool: whether the group at each spot stays clear of all that is placed."""
    free = np.ones(len(spots), bool)
    if not rows[0]:
        return free
    x, y, half_w, half_h, shown = (np.stack(row) for row in rows)
    for e in extents:
        near_x = np.abs(spots[:, 0, None, None] + (e.x - x)) < e.half_w + half_w + gap
        near_y = np.abs(spots[:, 1, None, None] + (e.y - y)) < e.half_h + half_h + gap
        free &= ~(near_x & near_y & (e.shown & shown)).any((1, 2))
    return free
