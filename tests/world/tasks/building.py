"""Scenes made by hand, a line a thing."""

from __future__ import annotations

import numpy as np

from sparsight.world.scene import (
    Background,
    Camera,
    Event,
    Look,
    Narration,
    Scene,
    Sound,
    Steps,
    Thing,
    Track,
    always,
    constant,
)
from sparsight.world.tasks import FAMILIES, Sight
from sparsight.world.tasks.family import Fact

TEXTURE = always(Background("texture", 1))


def look(phrase: str) -> Look:
    """ "red ring", "blue letter K", "white digit 7", "horse"."""
    color, _, noun = phrase.rpartition(" ") if phrase.count(" ") < 2 else phrase.partition(" ")
    if noun.startswith(("letter ", "digit ")):
        kind, name = noun.split(" ")
        return Look(kind, name, color)  # type: ignore[arg-type]
    return Look("shape" if color else "sprite", noun, color)


def thing(
    phrase: str | tuple[str, ...] = "red ring",
    at: tuple[float, float] = (0.5, 0.5),
    height: float = 0.2,
    *,
    to: tuple[float, float] | None = None,
    when: tuple[float, float] = (0.0, 3.0),
    changes: tuple[float, ...] = (),
    shown: tuple[tuple[float, float], ...] = ((0.0, float("inf")),),
    scale: Track | None = None,
    angle: Track | None = None,
    y: Track | None = None,
) -> Thing:
    """A thing at rest, or on its way `to` a place from the one second of `when` to the other.
    Several phrases are several looks, each from one of the seconds of `changes` on."""
    phrases = (phrase,) if isinstance(phrase, str) else phrase
    x_end, y_end = to or at
    along = (constant(at[0]), constant(at[1])) if to is None else (
        Track(when, (at[0], x_end)), Track(when, (at[1], y_end)),
    )  # fmt: skip
    return Thing(
        Steps((0.0, *changes), tuple(map(look, phrases))),
        height,
        along[0],
        y or along[1],
        scale or constant(1.0),
        angle or constant(0.0),
        shown,
    )


def sign(text: str, color: str = "red", at: tuple[float, float] = (0.5, 0.5), height: float = 0.3):
    return Thing(always(Look("sign", text, color, aspect=1.5)), height, *map(constant, at))


def picture(*things: Thing, **other) -> Scene:
    return film(*things, frames=1, **other)


def film(
    *things: Thing,
    frames: int = 8,
    fps: float = 2.0,
    events: tuple[Event, ...] = (),
    sounds: tuple[Sound, ...] = (),
    narration: tuple[Narration, ...] = (),
    cursor: tuple[Track, Track] | None = None,
    camera: Camera | None = None,
    backgrounds: Steps[Background] = TEXTURE,
    split: str = "test",
    aspect: float = 1.0,
) -> Scene:
    return Scene(
        0, split, frames, fps, aspect, things, backgrounds, camera or Camera(),
        events=events, sounds=sounds, narration=narration, cursor=cursor,
    )  # fmt: skip


def facts(task: str, scene: Scene, seed: int = 0) -> list[Fact]:
    """All that can be asked of a task."""
    return FAMILIES[task].facts(Sight(scene), np.random.default_rng(seed))


def answers(task: str, scene: Scene, group: str = "") -> set[str]:
    """The answers of all that can be asked, over some draws."""
    return {
        fact.answer
        for seed in range(8)
        for fact in facts(task, scene, seed)
        if not group or fact.group == group
    }


def asked(task: str, scene: Scene, group: str = "") -> dict[str, str]:
    """What can be asked, over some draws: the fill of the wording and the answer."""
    return {
        "/".join(fact.fill.values()): fact.answer
        for seed in range(8)
        for fact in facts(task, scene, seed)
        if not group or fact.group == group
    }
