"""What things do: which way they move, what comes first, how often."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from sparsight.world.scene import DIRECTIONS
from sparsight.world.tasks.deeds import Deeds
from sparsight.world.tasks.family import Fact, Family, Group, some
from sparsight.world.tasks.sight import Sight

_PAIRS = 4
_PLACES = ("first named", "second named")
_MOST = 6  # repetitions
_ENDS = {"appear", "leave", "stop", "turn"}  # always before, or after, what else a thing does
_COUNTED = {"bounce": "bounce", "blink": "blink", "grow": "grow", "spin": "turn all the way round"}


def _move(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Of things that go one way once and are otherwise not carried anywhere."""
    deeds = sight.deeds
    found = []
    for i, event in enumerate(deeds.events):
        if event.action == "move" and deeds.seen[i] and deeds.goes_once(i):
            name = sight.name(event.thing, rng)
            if name and _ends_there(sight, i):
                fill = {"thing": name}
                found.append(Fact("move", event.detail, fill, (event.thing,), "move"))
    return found


def _ends_there(sight: Sight, i: int) -> bool:
    """Whether the whole film shows the same direction, so that a moving camera misleads nobody."""
    thing = sight.deeds.events[i].thing
    seen = np.flatnonzero(sight.clear[:, thing])
    return sight.steady_camera or sight.deeds.heads(i, int(seen[0]), int(seen[-1]))


def _order(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Which of two is first, and the order of three; one is over before the next begins."""
    deeds = sight.deeds
    named: dict[int, str] = {}
    for i, event in enumerate(deeds.events):
        partner = deeds.partner(i)
        known = deeds.seen[i] and deeds.only(i) and event.action != "pick up"
        if known and sight.names[event.thing]:
            if partner is None:
                named[i] = ""
            elif sight.names[partner]:
                named[i] = sight.names[partner][0]
    once = [i for i in named if deeds.partner(i) is None and _acts_once(deeds, i)]
    pairs = [(a, b) for a in named for b in named if _before(deeds, a, b) and _open(deeds, a, b)]
    found = []
    for a, b in some(rng, pairs, _PAIRS):
        first, second = deeds.events[a].thing, deeds.events[b].thing
        whole = a in once and b in once and rng.random() < 0.5
        if whole:
            names = (sight.names[first][0], sight.names[second][0])
            group = "acts"
        else:
            names = (
                f"{sight.names[first][0]} {deeds.verb(a, named[a])}",
                f"{sight.names[second][0]} {deeds.verb(b, named[b])}",
            )
            group = "happens"
        x, y = names if rng.random() < 0.5 else names[::-1]
        found.append(
            Fact(
                group,
                names[0],
                {"a": f"the {x}", "b": f"the {y}"},
                (first, second),
                deeds.events[a].action,
                (x, y),
                stratum=_PLACES[x != names[0]],
            )
        )
    three = [
        (a, b, c)
        for a in once for b in once if _before(deeds, a, b)
        for c in once if _before(deeds, b, c)
    ]  # fmt: skip
    for row in some(rng, three, 1):
        found.append(_three(sight, row, rng))
    return found


def _acts_once(deeds: Deeds, i: int) -> bool:
    """Whether the event is all that its thing has part in, and more than being there or not."""
    event = deeds.events[i]
    return event.action not in ("appear", "leave", "stop") and deeds.of(event.thing) == [i]


def _before(deeds: Deeds, a: int, b: int) -> bool:
    """Whether event a is over when b begins, and begins a frame earlier at least."""
    (start, end), (other, _) = deeds.frames[a], deeds.frames[b]
    return start < other and end <= other


def _open(deeds: Deeds, a: int, b: int) -> bool:
    """Whether the one could as well be first as the other, for all that words tell."""
    first, second = deeds.events[a], deeds.events[b]
    same = first.thing == second.thing
    return second.cause != a and not (same and {first.action, second.action} & _ENDS)


def _three(sight: Sight, row: tuple[int, ...], rng: np.random.Generator) -> Fact:
    things = [sight.deeds.events[i].thing for i in row]
    names = [sight.names[thing][0] for thing in things]
    shown = some(rng, names, 3)
    choices = tuple(", ".join(order) for order in permutations(shown))
    fill = dict(zip("abc", (f"the {name}" for name in shown), strict=True))
    return Fact("three", ", ".join(names), fill, tuple(things), choices=choices)


def _repeat(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Repetitions that frames show one by one."""
    deeds = sight.deeds
    most = min(_MOST, max(1, (sight.frames - 2) // 2))
    choices = tuple(str(n) for n in range(1, most + 1))
    found: list[Fact] = []
    if most == 1:
        return found
    for i, event in enumerate(deeds.events):
        if event.action not in _COUNTED or not deeds.seen[i] or not deeds.only(i):
            continue
        name = sight.name(event.thing, rng)
        if name and event.times <= most and deeds.shown_times(i) == event.times:
            fill = {"thing": name, "act": _COUNTED[event.action]}
            about = (event.thing,)
            found.append(
                Fact("repeat", str(event.times), fill, about, event.action, choices, strata=choices)
            )
    return found


MOVE = Family(
    "move",
    _move,
    {
        "move": Group(
            (
                "Which way does the {thing} move?",
                "In which direction does the {thing} move?",
                "Where does the {thing} move?",
                "Which way is the {thing} moving?",
                "Which way does the {thing} go?",
            ),
            "direction",
            tuple(DIRECTIONS),
        )
    },
    needs="events",
    films=True,
)
ORDER = Family(
    "order",
    _order,
    {
        "acts": Group(
            (
                "Which acts first, {a} or {b}?",
                "Which does something first, {a} or {b}?",
                "Which is the first to do something, {a} or {b}?",
            ),
            strata=_PLACES,
        ),
        "happens": Group(
            (
                "What happens first: {a} or {b}?",
                "What comes first: {a} or {b}?",
                "Which is earlier: {a} or {b}?",
                "What do you see first: {a} or {b}?",
            ),
            strata=_PLACES,
        ),
        "three": Group(
            (
                "In which order do {a}, {b} and {c} act?",
                "Name {a}, {b} and {c} in the order in which they do something.",
            ),
            "sequence",
        ),
    },
    needs="events",
    films=True,
)
REPEAT = Family(
    "repeat",
    _repeat,
    {
        "repeat": Group(
            (
                "How many times does the {thing} {act}?",
                "How often does the {thing} {act}?",
                "Count how many times the {thing} does this: {act}.",
            )
        )
    },
    needs="events",
    films=True,
)
