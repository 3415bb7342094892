"""Scenes to paint in tests, built by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sparsight.world.library import Library
from sparsight.world.paint import paint
from sparsight.world.scene import (
    Background,
    Camera,
    Look,
    Scene,
    Steps,
    Thing,
    Track,
    always,
    constant,
)
from sparsight.world.sprites import sign_aspect


def thing(
    kind: Any = "shape",
    name: str = "square",
    color: str = "red",
    *,
    at: tuple[float, float] = (0.5, 0.5),
    height: float = 0.3,
    variant: int = 0,
    aspect: float = 1.0,
    **course: Any,
) -> Thing:
    look = Look(kind, name, color, variant, aspect)
    return Thing(always(look), height, constant(at[0]), constant(at[1]), **course)


def scene(*things: Thing, frames: int = 4, noise: float = 0.0, **more: Any) -> Scene:
    given: dict[str, Any] = {"seed": 5, "split": "train", "fps": 2.0, "aspect": 1.0}
    given |= {"backgrounds": always(Background("texture", 3)), **more}
    return Scene(frames=frames, things=things, noise=noise, **given)


def frames_of(what: Scene, side: int = 112, **more: Any) -> torch.Tensor:
    return paint(what, what.times, side, **more).frames.int()


def owned(what: Scene, side: int = 112, time: float = 0.0) -> np.ndarray:
    return paint(what, [time], side).owners[0].numpy()


def horses(folder: Path) -> Library:
    """Ten pictures of one class: stripes down, dark, light, dark and light."""
    place = folder / "horse"
    place.mkdir()
    stripes = np.full((32, 32, 3), 30, np.uint8)
    stripes[:, 8:16] = stripes[:, 24:] = 220
    for index in range(10):
        Image.fromarray(stripes).save(place / f"{index}.png")
    return Library(folder)


def busy(seed: int, frames: int = 3) -> Scene:
    """Everything at once: all kinds of things, a cut, camera, light, grain, a pointer."""
    end = frames / 2
    roll = np.random.default_rng(seed)

    def path() -> Track:
        return Track((0.0, end), tuple(roll.uniform(0, 1, 2).tolist()))

    looks = [
        Look("shape", "star", "orange"),
        Look("letter", "K", "blue", seed),
        Look("digit", "4", "white", seed),
        Look("sprite", "horse", "", seed % 10),
        Look("sign", "AX 3", "green", seed, sign_aspect("AX 3", seed)),
    ]
    things = [
        Thing(always(look), float(roll.uniform(0.1, 0.5)), path(), path(), angle=constant(30 * k))
        for k, look in enumerate(looks)
    ]
    return scene(
        *things,
        frames=frames,
        seed=seed,
        noise=5.0,
        backgrounds=Steps((0.0, 0.5), (Background("photo", 0, 3), Background("texture", seed))),
        camera=Camera(Track((0.0, end), (0.0, 0.3)), constant(0.1), Track((0.0, end), (1.0, 1.3))),
        light=Track((0.0, end), (0.7, 1.2)),
        cursor=(path(), path()),
    )
