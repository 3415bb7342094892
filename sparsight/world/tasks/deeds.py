"""Events as the frames show them: which are seen, and in what words."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sparsight.world.scene import ACTIONS, DIRECTIONS, Event
from sparsight.world.tasks.visible import Visible

#: Actions that take a thing from place to place: while one runs, "moves" might mean any.
MOTIONS = frozenset({"move", "turn", "bounce", "swap", "pick up", "leave", "stop"})
#: Actions that a thing does for a while, in full view.
LASTING = frozenset({"move", "turn", "bounce", "spin", "grow", "shrink", "blink", "swap"})
#: What such an action is called in a question, "when does it ...".
INFINITIVE = {
    "move": "move", "bounce": "bounce", "spin": "spin", "grow": "grow", "shrink": "shrink",
    "blink": "blink", "turn": "turn", "change": "change", "appear": "appear", "leave": "leave",
    "stop": "stop",
}  # fmt: skip
_ROUND = ("circle", "ring")
_NEAR = math.cos(math.radians(18))  # a direction may be off by so much
_WAY = 0.1  # units that a thing must move at least
_TURN = 60.0  # degrees that it must turn
_GROWTH = 1.25  # times as large as before, to be seen to grow
_REACH = 0.08  # units that it must bounce
_SLOW = 121.0  # degrees a frame, above which nobody can count turns
_MEANT = 1e-6  # frames that an event may begin or end beside a frame

Frames = tuple[int, int]


class Deeds:
    """The events of a scene. `frames[i]`: the first and last frame of event i; `seen[i]`: whether
    frames show it from beginning to end."""

    def __init__(self, sight: Visible) -> None:
        self.sight = sight
        self.events = sight.scene.events
        fps = sight.scene.fps
        self.frames: list[Frames] = [
            (math.floor(event.start * fps + _MEANT), math.ceil(event.end * fps - _MEANT))
            for event in self.events
        ]
        self.seen = [self._is_seen(i) and self._is_counted(i) for i in range(len(self.events))]

    def of(self, thing: int) -> list[int]:
        """The events that a thing takes part in, passive ones too."""
        return [
            i
            for i, event in enumerate(self.events)
            if event.thing == thing or (event.other == thing and event.action in _SHARED)
        ]

    def on_frames(self, i: int) -> bool:
        """Whether it is seen and begins and ends at frames, so that they tell its times."""
        event, (first, last) = self.events[i], self.frames[i]
        off = max(event.start / self.sight.step - first, last - event.end / self.sight.step)
        return self.seen[i] and off < 2 * _MEANT

    def only(self, i: int) -> bool:
        """Whether its thing does the same only once."""
        event = self.events[i]
        return sum(e.action == event.action for e in map(self._get, self.of(event.thing))) == 1

    def goes_once(self, i: int) -> bool:
        """Whether the thing is carried from place to place by this event alone."""
        return all(
            k == i or not (self.events[k].action in MOTIONS or self._comes(k))
            for k in self.of(self.events[i].thing)
        )

    def _get(self, i: int) -> Event:
        return self.events[i]

    def _comes(self, i: int) -> bool:
        """Whether it appears by moving into the picture."""
        return self.events[i].action == "appear" and self.events[i].end > self.events[i].start

    def _is_seen(self, i: int) -> bool:
        event, (first, last) = self.events[i], self.frames[i]
        sight = self.sight
        if first < 0 or last >= sight.frames:
            return False
        clear = sight.clear[:, event.thing]
        action = event.action
        if action in ("change", "stop"):
            return bool(first >= 1 and clear[first - 1] and clear[last]) and _differs(sight, event)
        if action == "appear":
            gone = first >= 1 and not sight.in_view[first - 1, event.thing]
            return bool(gone and clear[last])
        if action == "leave":
            return bool(clear[first] and not sight.in_view[last:, event.thing].any())
        if last <= first:
            return False
        if action == "blink":
            there = sight.there[first : last + 1, event.thing]
            return bool(first >= 1 and clear[first - 1] and clear[last] and not there.all())
        who = [event.thing] if event.other is None or action not in _SHARED else [
            event.thing, event.other
        ]  # fmt: skip
        if not all(sight.clear[first : last + 1, k].all() for k in who):
            return False
        return _shows(sight, event, first, last)

    def _is_counted(self, i: int) -> bool:
        """Whether the frames show a repeated event as often as it takes place."""
        times = self.events[i].times
        return times == 1 or self.shown_times(i) == times

    def heads(self, i: int, first: int, last: int) -> bool:
        """Whether between two frames its thing gets on in the direction that the event has."""
        event = self.events[i]
        return _heads(self.sight, event.thing, event.detail, first, last)

    def shown_times(self, i: int) -> int:
        """How many repetitions of an event the frames show: stretches beyond half of its reach."""
        event, (first, last) = self.events[i], self.frames[i]
        thing = self.sight.scene.things[event.thing]
        times = np.arange(first, last + 1) * self.sight.step
        if event.action == "blink":
            return sum(1 for _ in runs(~self.sight.there[first : last + 1, event.thing]))
        if event.action == "spin":
            angle = thing.angle.at(times)
            turns = float(abs(angle[-1] - angle[0])) / 360
            slow = np.abs(np.diff(angle)).max() <= _SLOW
            return round(turns) if slow and abs(turns - round(turns)) < 0.02 else 0
        value = thing.scale.at(times) if event.action == "grow" else -thing.y.at(times)
        low, high = value.min(), value.max()
        return sum(1 for _ in runs(value > (low + high) / 2)) if high > low else 0

    def goes_back(self, i: int) -> bool:
        """Whether a thing that grows or shrinks has its first size again in the end."""
        event = self.events[i]
        scale = self.sight.scene.things[event.thing].scale
        start, end = scale.at(np.array([event.start, event.end])).tolist()
        return event.action in ("grow", "shrink") and abs(end / start - 1) < _GROWTH - 1

    # In words

    def sentence(self, i: int, name: str, other: str = "") -> str:
        """ "the red ring moves left", "the star blinks 3 times"."""
        event = self.events[i]
        said = ACTIONS[event.action].format(detail=event.detail, other=f"the {other}")
        often = f" {event.times} times" if event.times > 1 else ""
        return f"the {name} {said}{often}"

    def verb(self, i: int, other: str = "") -> str:
        """What happens, without direction, color or number: "moves", "changes"."""
        event = self.events[i]
        if event.action == "change":
            return "changes"
        return ACTIONS[event.action].format(detail="", other=f"the {other}").strip()

    def partner(self, i: int) -> int | None:
        """The thing that the words of an event name beside its own."""
        event = self.events[i]
        return event.other if event.action in _SHARED else None


_SHARED = ("pick up", "swap")


def _differs(sight: Visible, event: Event) -> bool:
    """Whether a change is one."""
    thing = sight.scene.things[event.thing]
    if event.action != "change":
        return True
    before = thing.looks.at(event.start - sight.step / 2)
    return before != thing.looks.at(event.start)


def _shows(sight: Visible, event: Event, first: int, last: int) -> bool:
    """Whether what lasts is large enough to be seen."""
    thing = sight.scene.things[event.thing]
    times = np.array([first, last]) * sight.step
    if event.action in ("move", "turn"):
        return _heads(sight, event.thing, event.detail, first, last)
    if event.action == "spin":
        a, b = thing.angle.at(times).tolist()
        return abs(b - a) >= _TURN and thing.look.name not in _ROUND
    every = np.arange(first, last + 1) * sight.step
    if event.action in ("grow", "shrink"):
        tall = thing.scale.at(every)
        return bool(tall.max() / tall.min() >= _GROWTH)
    if event.action == "bounce":
        return bool(np.ptp(thing.y.at(every)) >= _REACH)
    return True


def _heads(sight: Visible, thing: int, direction: str, first: int, last: int) -> bool:
    if direction not in DIRECTIONS:
        return False
    way = (sight.middle[last, thing] - sight.middle[first, thing]).tolist()
    x, y = way[0] * sight.scene.width, way[1] * sight.scene.height
    right, down = DIRECTIONS[direction]
    length = math.hypot(x, y)
    along = (x * right + y * down) / math.hypot(right, down)
    return length >= _WAY and along >= _NEAR * length


def runs(flags: np.ndarray) -> Iterator[Frames]:
    """The first and last place of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield start, end - 1
