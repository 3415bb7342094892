"""A scene: things that do things before a background, with a camera, light and sound.

A scene is a description from which pixels, sound and every truth follow exactly; nothing about it
is random. Time is in seconds from 0 to `duration`. Space is in *units*: the shorter side of the
picture is 1, x to the right and y down, (0, 0) the top left corner while the camera is at rest.

Shape suffixes: T instants, K things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "orange": (250, 135, 20),
    "yellow": (245, 230, 50),
    "green": (35, 165, 60),
    "blue": (40, 80, 225),
    "purple": (155, 50, 195),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
LETTERS = tuple("ACHKLMSTXZ")
DIGITS = tuple("0123456789")
DIRECTIONS: dict[str, tuple[int, int]] = {
    "right": (1, 0),
    "down-right": (1, 1),
    "down": (0, 1),
    "down-left": (-1, 1),
    "left": (-1, 0),
    "up-left": (-1, -1),
    "up": (0, -1),
    "up-right": (1, -1),
}
#: Height of a sign's letters in units, from tiny to large: which is which is part of the truth.
TEXT_SIZES: dict[str, tuple[float, float]] = {
    "tiny": (0.05, 0.07),
    "small": (0.08, 0.11),
    "medium": (0.13, 0.17),
    "large": (0.2, 0.26),
}

Kind = Literal["shape", "letter", "digit", "sprite", "sign"]
V = TypeVar("V")


@dataclass(frozen=True)
class Track:
    """A number over time: linear between knots, constant before the first and after the last.

    times (n,) seconds, strictly rising; values (n,).
    """

    times: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.times or len(self.times) != len(self.values):
            raise ValueError(f"{len(self.times)} knots with {len(self.values)} values")
        if any(b <= a for a, b in zip(self.times, self.times[1:], strict=False)):
            raise ValueError(f"the knots of a track must rise: {self.times}")

    def at(self, times: np.ndarray) -> np.ndarray:
        """Values (T,) at times (T,)."""
        return np.interp(times, self.times, self.values)


def constant(value: float) -> Track:
    return Track((0.0,), (float(value),))


@dataclass(frozen=True)
class Steps(Generic[V]):
    """Anything over time that changes at once: `values[i]` holds from `times[i]` on.

    times (n,) seconds, strictly rising; the first value also holds before its time.
    """

    times: tuple[float, ...]
    values: tuple[V, ...]

    def __post_init__(self) -> None:
        if not self.times or len(self.times) != len(self.values):
            raise ValueError(f"{len(self.times)} steps with {len(self.values)} values")
        if any(b <= a for a, b in zip(self.times, self.times[1:], strict=False)):
            raise ValueError(f"the times of steps must rise: {self.times}")

    def index(self, times: np.ndarray) -> np.ndarray:
        """Which value holds, (T,) at times (T,)."""
        return np.clip(np.searchsorted(self.times, times, side="right") - 1, 0, None)

    def at(self, time: float) -> V:
        return self.values[int(self.index(np.asarray(time)))]


def always(value: V) -> Steps[V]:
    return Steps((0.0,), (value,))


@dataclass(frozen=True)
class Look:
    """What a thing looks like.

    `name` is the shape, letter, digit, class of the photograph, or the text of a sign; `color` a
    key of COLORS, "" for photographs. `variant` chooses the handwritten digit, the photograph or
    the font. `aspect` is width over height of the box it fills.
    """

    kind: Kind
    name: str
    color: str = ""
    variant: int = 0
    aspect: float = 1.0

    @property
    def noun(self) -> str:
        """ "ring", "letter K", "digit 7", "horse", "sign"."""
        if self.kind in ("letter", "digit"):
            return f"{self.kind} {self.name}"
        return "sign" if self.kind == "sign" else self.name

    @property
    def phrase(self) -> str:
        """ "red ring": color, where there is one, and noun."""
        return f"{self.color} {self.noun}".strip()


@dataclass(frozen=True)
class Thing:
    """One thing and its course through the scene.

    `x`, `y` its centre in units; `height` the height of its box at scale 1 in units; `angle` in
    degrees clockwise. `shown` are the stretches (start, end) of seconds in which it exists, end
    excluded: it may be hidden by others or lie outside the picture even then. Later things of a
    scene lie in front of earlier ones.
    """

    looks: Steps[Look]
    height: float
    x: Track
    y: Track
    scale: Track = field(default_factory=lambda: constant(1.0))
    angle: Track = field(default_factory=lambda: constant(0.0))
    shown: tuple[tuple[float, float], ...] = ((0.0, float("inf")),)

    @property
    def look(self) -> Look:
        """The first look; most things keep it."""
        return self.looks.values[0]

    def visible(self, times: np.ndarray) -> np.ndarray:
        """(T,) bool: whether it exists at times (T,)."""
        times = np.asarray(times)
        seen = np.zeros(times.shape, bool)
        for start, end in self.shown:
            seen |= (times >= start) & (times < end)
        return seen


@dataclass(frozen=True)
class Event:
    """Something that a thing does from `start` to `end` seconds.

    `action` is a key of ACTIONS; `detail` its direction, colour or text; `other` the thing it is
    done to or with; `times` how often it is repeated; `cause` the event that it follows from.
    """

    action: str
    thing: int
    start: float
    end: float
    detail: str = ""
    other: int | None = None
    times: int = 1
    cause: int | None = None


#: Verb, third person: "the red ring ..." -> "{} moves left", "{} blinks". {detail}, {other}.
ACTIONS: dict[str, str] = {
    "move": "moves {detail}",
    "stop": "stops",
    "bounce": "bounces",
    "spin": "spins",
    "grow": "grows",
    "shrink": "shrinks",
    "blink": "blinks",
    "appear": "appears",
    "leave": "leaves",
    "turn": "turns {detail}",
    "change": "changes to {detail}",
    "pick up": "picks up {other}",
    "swap": "swaps places with {other}",
}


@dataclass(frozen=True)
class Sound:
    """A sound from `start` to `end` seconds: `kind` "tone" or "digit", `name` what is heard
    ("high tone", "low tone", "rising tone", "falling tone"; "zero" to "nine"), bound to a thing
    or to none."""

    kind: Literal["tone", "digit"]
    name: str
    start: float
    end: float
    thing: int | None = None
    variant: int = 0


@dataclass(frozen=True)
class Background:
    """`kind` "texture" (drawn from `seed`) or "photo" (photograph `variant` of the library)."""

    kind: Literal["texture", "photo"]
    seed: int
    variant: int = 0


@dataclass(frozen=True)
class Camera:
    """Where the camera looks: the shift (x, y) of its centre in units and its zoom. A point p of
    the scene is seen at (p - centre - shift) * zoom + centre."""

    x: Track = field(default_factory=lambda: constant(0.0))
    y: Track = field(default_factory=lambda: constant(0.0))
    zoom: Track = field(default_factory=lambda: constant(1.0))


@dataclass(frozen=True)
class Narration:
    """Words said from `start` to `end` seconds while the cursor traces a thing."""

    text: str
    start: float
    end: float
    thing: int | None = None


@dataclass(frozen=True)
class Scene:
    """Everything there is to see and hear.

    `seed` and `split` say where it comes from. The film has `frames` frames at `fps` a second;
    frame k shows the instant k / fps. `aspect` is width over height. `backgrounds` change at the
    scene cuts. `light` scales all pixels; `noise` is the spread of the grain in grey levels.
    `cursor` is the path of a pointer, or None.
    """

    seed: int
    split: str
    frames: int
    fps: float
    aspect: float
    things: tuple[Thing, ...]
    backgrounds: Steps[Background]
    camera: Camera = field(default_factory=Camera)
    light: Track = field(default_factory=lambda: constant(1.0))
    noise: float = 4.0
    events: tuple[Event, ...] = ()
    sounds: tuple[Sound, ...] = ()
    narration: tuple[Narration, ...] = ()
    cursor: tuple[Track, Track] | None = None

    @property
    def is_film(self) -> bool:
        return self.frames > 1

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.fps

    @property
    def width(self) -> float:
        """Of the picture, in units."""
        return max(1.0, self.aspect)

    @property
    def height(self) -> float:
        """Of the picture, in units."""
        return max(1.0, 1 / self.aspect)

    @property
    def times(self) -> np.ndarray:
        """(frames,) the instants that its frames show."""
        return np.arange(self.frames) / self.fps

    @property
    def cuts(self) -> tuple[float, ...]:
        """The seconds at which the scene changes."""
        return self.backgrounds.times[1:]


def pixel_size(scene: Scene, side: int) -> tuple[int, int]:
    """(height, width) in pixels when the shorter side has `side`."""
    return (round(scene.height * side), round(scene.width * side))


def boxes(scene: Scene, times: Sequence[float] | np.ndarray) -> np.ndarray:
    """The box that each thing fills, as the camera sees it.

    Returns (T, K, 4) float: x0, y0, x1, y1 in shares of the picture, not clipped to it, with
    rotation taken into account (the upright box around the turned one); NaN while it does not
    exist.
    """
    at = np.asarray(times, float)
    zoom = scene.camera.zoom.at(at)
    centre = (scene.width / 2, scene.height / 2)
    shift = (scene.camera.x.at(at), scene.camera.y.at(at))
    found = np.full((len(at), len(scene.things), 4), np.nan)
    for place, thing in enumerate(scene.things):
        aspect = np.array([look.aspect for look in thing.looks.values])[thing.looks.index(at)]
        tall = thing.height * thing.scale.at(at) * zoom
        turn = np.deg2rad(thing.angle.at(at))
        sin, cos = np.abs(np.sin(turn)), np.abs(np.cos(turn))
        half_w = (tall * aspect * cos + tall * sin) / 2
        half_h = (tall * cos + tall * aspect * sin) / 2
        x = (thing.x.at(at) - centre[0] - shift[0]) * zoom + centre[0]
        y = (thing.y.at(at) - centre[1] - shift[1]) * zoom + centre[1]
        box = np.stack([x - half_w, y - half_h, x + half_w, y + half_h], -1)
        box /= np.array([scene.width, scene.height] * 2)
        found[:, place] = np.where(thing.visible(at)[:, None], box, np.nan)
    return found
