"""What holds at one time and not at another: state, cause, sound, what the pointer shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparsight.world.scene import COLORS, LETTERS, Event, Look
from sparsight.world.tasks.deeds import INFINITIVE
from sparsight.world.tasks.family import Fact, Family, Group, pick
from sparsight.world.tasks.places import SIDES, guess_phrase, guess_text, readable, side
from sparsight.world.tasks.question import Guess
from sparsight.world.tasks.sight import Sight
from sparsight.world.tasks.timing import moment

TONES = ("high tone", "low tone", "rising tone", "falling tone")
SPOKEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: What can follow from a touch, in the words of an answer.
EFFECTS = {
    "move": "it moves", "spin": "it spins", "grow": "it grows", "shrink": "it shrinks",
    "blink": "it blinks", "change": "it changes color", "pick up": "it is picked up",
}  # fmt: skip
_TOUCH = 0.05  # units between two boxes that touch
_HEARD = 0.5  # share of an event during which its sound is heard, at least


def _state(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Colors, letters and texts that change, and the sides on which moving things are."""
    found = []
    for thing, looks in enumerate(sight.looks):
        if len(looks) > 1:
            found += _looks_over_time(sight, thing, rng)
        elif any(sight.deeds.events[i].action == "move" for i in sight.deeds.of(thing)):
            found += _sides_over_time(sight, thing, rng)
    return found


def _looks_over_time(sight: Sight, thing: int, rng: np.random.Generator) -> list[Fact]:
    """One fact a look that at least two frames show, of those that differ from one another."""
    looks = sight.looks[thing]
    kind = looks[0].kind
    group, fill = "", {}
    if len({look.noun for look in looks}) == 1 and kind != "sign":
        name = sight.plain_name(thing, rng)
        if name and all(look.color for look in looks):
            group, fill = "color", {"thing": name}
    elif len({look.color for look in looks}) == 1 and sight.kinds.count(kind) == 1:
        group = kind if kind in ("letter", "sign") else ""
    if not group:
        return []
    found = []
    for look, frames in _held(sight, thing):
        frames = [k for k in frames if sight.clear[k, thing]]
        if kind == "sign":
            frames = [k for k in frames if readable(sight, thing, k)]
        time = moment(sight, frames, rng)
        if time is not None:
            answer = look.color if group == "color" else look.name
            guess = guess_text(answer) if group == "sign" else None
            about = () if group == "sign" else (thing,)
            found.append(
                Fact(group, answer, {**fill, "time": time}, about, "change", guess=guess,
                     stratum="text" if group == "sign" else "")
            )  # fmt: skip
    return found if len({fact.answer for fact in found}) > 1 else []


def _held(sight: Sight, thing: int) -> Iterator[tuple[Look, list[int]]]:
    """Each look with the frames of it before which it has held for a frame already."""
    looks = sight.scene.things[thing].looks
    index = looks.index(sight.scene.times)
    same = np.concatenate(([True], index[1:] == index[:-1]))
    for place, look in enumerate(looks.values):
        yield look, np.flatnonzero(same & (index == place)).tolist()


def _sides_over_time(sight: Sight, thing: int, rng: np.random.Generator) -> list[Fact]:
    """One fact a side of the picture on which the thing clearly is at some time."""
    name = sight.name(thing, rng)
    if not name or not sight.steady_camera:
        return []
    frames: dict[str, list[int]] = {}
    for k, (x, y) in enumerate(sight.middle[:, thing].tolist()):
        if sight.clear[k, thing] and (found := side(x, y)):
            frames.setdefault(found, []).append(k)
    if len(frames) < 2:
        return []
    return [
        Fact("side", answer, {"thing": name, "time": time}, (thing,), "move")
        for answer, places in frames.items()
        if (time := moment(sight, places, rng)) is not None
    ]


def _cause(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """What follows when one thing touches another, and which thing made it so."""
    deeds = sight.deeds
    found = []
    for i, event in enumerate(deeds.events):
        if event.action != "move" or event.other is None or not deeds.seen[i]:
            continue
        effects = [k for k in range(len(deeds.events)) if _follows(deeds.events, k, i)]
        if len(effects) != 1 or not deeds.seen[effects[0]] or not _touch(sight, i):
            continue
        effect = deeds.events[effects[0]]
        names = sight.names[event.thing], sight.names[event.other]
        if not all(names) or effect.action not in EFFECTS:
            continue
        fill = {"a": names[0][0], "b": names[1][0]}
        about = (event.thing, event.other)
        found.append(Fact("effect", EFFECTS[effect.action], fill, about, event.action))
        others = [
            sight.names[k][0]
            for k in range(sight.count)
            if k != event.other and sight.names[k] and sight.ever[k]
        ]
        act = INFINITIVE.get(effect.action)
        if act and len(others) > 1 and deeds.only(effects[0]) and _touches_alone(sight, i):
            order = tuple(others[k] for k in rng.permutation(len(others)))
            fill = {"b": names[1][0], "act": act}
            found.append(Fact("why", names[0][0], fill, about, event.action, order))
    return found


def _follows(events: tuple[Event, ...], effect: int, cause: int) -> bool:
    """Whether one event follows from the other: it is said to, or it is the picking up."""
    a, b = events[cause], events[effect]
    if b.action == "pick up":
        return b.thing == a.thing and b.other == a.other and b.start >= a.end - 1e-9
    return b.cause == cause and b.thing == a.other


def _touch(sight: Sight, i: int) -> bool:
    """Whether the two meet, and only then."""
    event, (first, last) = sight.deeds.events[i], sight.deeds.frames[i]
    assert event.other is not None
    size = np.array([sight.scene.width, sight.scene.height])
    a, b = sight.box[first : last + 1, event.thing], sight.box[first : last + 1, event.other]
    apart = np.maximum(a[:, :2] - b[:, 2:], b[:, :2] - a[:, 2:]) * size
    gap = apart.max(-1)
    return bool(gap[-1] <= _TOUCH < gap[0])


def _touches_alone(sight: Sight, i: int) -> bool:
    """Whether at the touch no third thing is nearly as close."""
    event, (_, last) = sight.deeds.events[i], sight.deeds.frames[i]
    others = [k for k in range(sight.count) if k not in (event.thing, event.other)]
    size = np.array([sight.scene.width, sight.scene.height])
    a, b = sight.box[last, others], sight.box[last, event.other]
    apart = np.maximum(a[:, :2] - b[2:], b[:2] - a[:, 2:]) * size
    return not (apart.max(-1, initial=-np.inf) <= 2 * _TOUCH).any()


def _sound(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """What was heard while a thing did something, and which thing did something meanwhile."""
    deeds, sounds = sight.deeds, sight.scene.sounds
    found = []
    for i, event in enumerate(deeds.events):
        partner = deeds.partner(i)
        if (
            not deeds.seen[i]
            or not deeds.only(i)
            or event.end <= event.start
            or partner is not None
        ):
            continue
        heard = [s for s in sounds if s.start < event.end - 1e-9 and s.end > event.start + 1e-9]
        name = sight.name(event.thing, rng)
        if len(heard) != 1 or not name:
            continue
        (sound,) = heard
        shared = min(sound.end, event.end) - max(sound.start, event.start)
        if sound.thing != event.thing or shared < _HEARD * (event.end - event.start):
            continue
        fill = {"thing": name, "act": INFINITIVE[event.action]}
        found.append(Fact(sound.kind, sound.name, fill, (event.thing,), event.action))
        found += _source(sight, i, sound.name, rng)
    return found


def _source(sight: Sight, i: int, sound: str, rng: np.random.Generator) -> list[Fact]:
    """Which thing did something while the sound was heard, where only one did."""
    sounds, events = sight.scene.sounds, sight.deeds.events
    same = [s for s in sounds if s.name == sound]
    if len(same) != 1:
        return []
    (heard,) = same
    busy = [e for e in events if e.start < heard.end - 1e-9 and e.end > heard.start + 1e-9]
    names = [found[0] for found in sight.names if found]
    if len(busy) != 1 or not sight.names[events[i].thing] or len(names) < 2:
        return []
    order = tuple(names[k] for k in rng.permutation(len(names)))
    answer = sight.names[events[i].thing][0]
    what = f'the word "{sound}"' if heard.kind == "digit" else f"the {sound}"
    about = (events[i].thing,)
    return [Fact("source", answer, {"sound": what}, about, "", order)]


def _narrate(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """What the pointer goes around at a time, and first and last of all."""
    said = [part for part in sight.scene.narration if part.thing is not None]
    if sight.scene.cursor is None or len(said) < 2:
        return []
    things = [part.thing for part in said if part.thing is not None]
    if not all(sight.always[thing] and sight.names[thing] for thing in things):
        return []
    names = [sight.names[thing][0] for thing in things]
    found = []
    for part, thing, name in zip(said, things, names, strict=True):
        until = part.start + 0.7 * (part.end - part.start)  # then it goes on to the next
        times = sight.scene.times
        frames = np.flatnonzero((times >= part.start - 1e-9) & (times <= until)).tolist()
        time = moment(sight, frames, rng)
        if time is not None:
            guess = _other_name(sight, thing)
            found.append(Fact("then", name, {"time": time}, (thing,), guess=guess))
    if len(set(things)) == len(things):
        for group, place in (("first", 0), ("last", -1)):
            guess = _other_name(sight, things[place])
            found.append(Fact(group, names[place], {}, (things[place],), guess=guess))
    return found


def _other_name(sight: Sight, thing: int) -> Guess:
    """The name of another thing in the scene, or of one that might be."""
    names = [found[0] for k, found in enumerate(sight.names) if found and k != thing]
    phrase = guess_phrase(sight, thing)
    return lambda rng: pick(rng, names) if names and rng.random() < 0.5 else phrase(rng)


STATE = Family(
    "state",
    _state,
    {
        "color": Group(
            (
                "What color is the {thing} at {time} seconds?",
                "Which color is the {thing} at {time} seconds?",
                "What is the color of the {thing} after {time} seconds?",
            ),
            choices=tuple(COLORS),
            timed=True,
        ),
        "letter": Group(
            (
                "Which letter is shown at {time} seconds?",
                "What letter do you see at {time} seconds?",
            ),
            choices=LETTERS,
            timed=True,
        ),
        "sign": Group(
            (
                "What does the sign say at {time} seconds?",
                "Which text is on the sign at {time} seconds?",
            ),
            "text",
            timed=True,
        ),
        "side": Group(
            (
                "Where is the {thing} at {time} seconds?",
                "On which side is the {thing} at {time} seconds?",
            ),
            choices=SIDES,
            timed=True,
        ),
    },
    films=True,
)
CAUSE = Family(
    "cause",
    _cause,
    {
        "effect": Group(
            (
                "What happens to the {b} when the {a} touches it?",
                "The {a} reaches the {b}. What happens to the {b}?",
                "What happens to the {b} as soon as the {a} reaches it?",
            ),
            choices=tuple(EFFECTS.values()),
        ),
        "why": Group(
            (
                "What makes the {b} {act}?",
                "Which thing touches the {b}, so that it begins to {act}?",
                "Because of which thing does the {b} {act}?",
            )
        ),
    },
    needs="events",
    films=True,
)
_HEAR = (
    "What is heard while the {thing} does this: {act}?",
    "Which sound is there when the {thing} begins to {act}?",
    "What do you hear while the {thing} does this: {act}?",
)
SOUND = Family(
    "sound",
    _sound,
    {
        "tone": Group(_HEAR, choices=TONES),
        "digit": Group(_HEAR, choices=SPOKEN),
        "source": Group(
            (
                "Which thing does something while {sound} is heard?",
                "What is it that acts while you hear {sound}?",
            )
        ),
    },
    needs="sounds",
    films=True,
)
NARRATE = Family(
    "narrate",
    _narrate,
    {
        "then": Group(
            (
                "What does the pointer show at {time} seconds?",
                "Around which thing does the pointer go at {time} seconds?",
                "What does the narrator talk about at {time} seconds?",
            ),
            timed=True,
        ),
        "first": Group(
            (
                "Which thing does the pointer show first?",
                "What does the narrator point at first?",
            )
        ),
        "last": Group(
            (
                "Which thing does the pointer show last?",
                "What does the narrator point at last?",
            )
        ),
    },
    needs="narration",
    films=True,
)
