"""Where everything is in every frame: the courses of many scenes as flat arrays.

Shape suffixes: F frames of all scenes, one after the other; N rows, one a thing and frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsight.core.errors import UserError
from sparsight.world.scene import Background, Look, Scene, Steps, Track

POINTER = 255  # the place of the pointer, in front of all things

Items = Sequence[tuple[Scene, Sequence[float] | np.ndarray]]


@dataclass(frozen=True)
class Frames:
    """What holds for a whole frame, arrays (F,).

    background: index into `backgrounds`, which hold the split of its scene beside each; x, y,
    zoom: the camera; light, noise: of the scene; seed: the scene's, uint64; time: seconds.
    """

    backgrounds: list[tuple[Background, str]]
    background: np.ndarray
    x: np.ndarray
    y: np.ndarray
    zoom: np.ndarray
    light: np.ndarray
    noise: np.ndarray
    seed: np.ndarray
    time: np.ndarray


@dataclass(frozen=True)
class Rows:
    """A thing in a frame, arrays (N,), in the order of scenes, things and frames.

    frame: index (F); place: of the thing in its scene, or POINTER; look: index into `looks`, where
    None stands for the pointer; x, y, tall: centre (tip of the pointer) and height in units of the
    scene; turn: degrees clockwise.
    """

    looks: list[Look | None]
    frame: np.ndarray
    place: np.ndarray
    look: np.ndarray
    x: np.ndarray
    y: np.ndarray
    tall: np.ndarray
    turn: np.ndarray


@dataclass(frozen=True)
class Layout:
    """All that painting needs to know of scenes of one aspect, in numpy arrays and small objects:
    it can be made in one process and painted in another.

    extent: height and width of the pictures in units.
    """

    extent: tuple[float, float]
    frames: Frames
    rows: Rows


def lay_out(items: Items) -> Layout:
    """The frames of all items, in order, and every thing that exists in each.

    UserError: no items, or scenes of different aspects.
    """
    aspects = sorted({scene.aspect for scene, _ in items})
    if len(aspects) != 1:
        raise UserError(f"scenes are painted together if they have one aspect, not {aspects}")
    every = [np.asarray(times, float) for _, times in items]
    count = sum(len(times) for times in every)
    total = sum(
        len(times) * (len(scene.things) + (scene.cursor is not None))
        for (scene, _), times in zip(items, every, strict=True)
    )
    backgrounds: dict[tuple[Background, str], int] = {}
    looks: dict[Look | None, int] = {}
    background = np.empty(count, np.int64)
    seed = np.empty(count, np.uint64)
    x, y, zoom, light, noise = np.empty((5, count))
    frame, place, look = np.empty((3, total), np.int64)
    course = np.empty((4, total))  # x, y, tall, turn
    exists = np.ones(total, bool)
    first = row = 0
    for (scene, _), times in zip(items, every, strict=True):
        frames = slice(first, first + len(times))
        shots = [
            backgrounds.setdefault((shot, scene.split), len(backgrounds))
            for shot in scene.backgrounds.values
        ]
        background[frames] = _held(shots, scene.backgrounds, times)
        _follow(scene.camera.x, times, x[frames])
        _follow(scene.camera.y, times, y[frames])
        _follow(scene.camera.zoom, times, zoom[frames])
        _follow(scene.light, times, light[frames])
        noise[frames] = scene.noise
        seed[frames] = scene.seed & 0xFFFFFFFFFFFFFFFF
        for index, thing in enumerate(scene.things):
            rows = slice(row, row + len(times))
            frame[rows] = np.arange(first, frames.stop)
            place[rows] = index
            found = [looks.setdefault(value, len(looks)) for value in thing.looks.values]
            look[rows] = _held(found, thing.looks, times)
            _follow(thing.x, times, course[0, rows])
            _follow(thing.y, times, course[1, rows])
            _follow(thing.scale, times, course[2, rows])
            course[2, rows] *= thing.height
            _follow(thing.angle, times, course[3, rows])
            exists[rows] = thing.visible(times)
            row = rows.stop
        if scene.cursor is not None:
            rows = slice(row, row + len(times))
            frame[rows] = np.arange(first, frames.stop)
            place[rows] = POINTER
            look[rows] = looks.setdefault(None, len(looks))
            _follow(scene.cursor[0], times, course[0, rows])
            _follow(scene.cursor[1], times, course[1, rows])
            course[2:, rows] = 0
            row = rows.stop
        first = frames.stop
    time = np.concatenate(every)
    return Layout(
        (items[0][0].height, items[0][0].width),
        Frames(list(backgrounds), background, x, y, zoom, light, noise, seed, time),
        Rows(list(looks), frame[exists], place[exists], look[exists], *course[:, exists]),
    )


def _follow(track: Track, times: np.ndarray, out: np.ndarray) -> None:
    """`track.at(times)` into `out`, at once where it is constant."""
    out[:] = track.values[0] if len(track.values) == 1 else track.at(times)


def _held(numbers: list[int], steps: Steps[Any], times: np.ndarray) -> np.ndarray | int:
    """The number of the value that holds at each time."""
    return numbers[0] if len(numbers) == 1 else np.array(numbers)[steps.index(times)]
