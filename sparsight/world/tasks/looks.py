"""What is there and what it looks like: existence, color, shape, count."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sparsight.world.scene import COLORS, DIGITS, LETTERS, SHAPES
from sparsight.world.splits import held_out_look
from sparsight.world.tasks.family import Fact, Family, Group, pick, plural, some, with_article
from sparsight.world.tasks.sight import Sight

_NAMES = {"shape": SHAPES, "letter": LETTERS, "digit": DIGITS}
_COLORS = tuple(COLORS)
#: Names that are easily taken for each other: where one is there, nobody asks for the other.
_ALIKE = {
    "ring": ("0",), "circle": ("0",), "0": ("ring", "circle"), "cross": ("X",), "X": ("cross",),
    "Z": ("2",), "2": ("Z",), "S": ("5",), "5": ("S",), "A": ("4",), "4": ("A",), "6": ("9",),
    "9": ("6",),
}  # fmt: skip
_MOST = 6  # things in a scene
_SEEN = 0.25  # share of the frames in which what a film "has" must be clear at least

_EXISTS = ("Is there {thing}?", "Do you see {thing}?", "Can you see {thing}?", "Is {thing} there?")
_ANY = ("yes", "no")


def _exists(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """As many things that are there as things that are not, of the same sorts.

    What is not there differs by a half from something that is, or mixes the halves of two.
    """
    yes, no = [], []
    names = {look.name for looks in sight.looks for look in looks}
    colors = {look.color for looks in sight.looks for look in looks}
    phrases = {(look.name, look.color) for looks in sight.looks for look in looks}
    by_color = "sprite" not in sight.kinds and not sight.cluttered
    for thing, kind in enumerate(sight.kinds):
        color, noun = sight.colors[thing], sight.nouns[thing]
        if kind not in _NAMES or not sight.often[thing] or not color or not noun:
            continue
        name = sight.looks[thing][0].name
        other = _absent(names, kind, rng)
        if other is not None:
            yes.append(Fact("noun", "yes", {"thing": with_article(noun)}, (thing,)))
            no.append(Fact("noun", "no", {"thing": with_article(_noun(kind, other))}, (thing,)))
        pair = _mixed(sight, thing, name, color, names, colors, phrases, rng)
        if pair is not None:
            both = f"{pair[1]} {_noun(kind, pair[0])}"
            yes.append(Fact("both", "yes", {"thing": f"a {color} {noun}"}, (thing,)))
            no.append(Fact("both", "no", {"thing": f"a {both}"}, (thing,)))
        if by_color:
            absent = [c for c in _COLORS if c not in colors]
            if absent:
                yes.append(Fact("color", "yes", {"thing": f"a {color} thing"}, (thing,)))
                no.append(Fact("color", "no", {"thing": f"a {pick(rng, absent)} thing"}, (thing,)))
    for fact in (*yes, *no):
        fact.fill["thing"] = fact.fill["thing"].replace("a orange", "an orange")
    return [*yes, *no]


def _noun(kind: str, name: str) -> str:
    return name if kind == "shape" else f"{kind} {name}"


def _absent(names: set[str], kind: str, rng: np.random.Generator) -> str | None:
    """A name of this kind that nothing has, nor anything that looks like it; None if all do."""
    barred = names.union(*(_ALIKE[name] for name in names if name in _ALIKE))
    free = [name for name in _NAMES[kind] if name not in barred]
    return pick(rng, free) if free else None


def _mixed(
    sight: Sight,
    thing: int,
    name: str,
    color: str,
    names: set[str],
    colors: set[str],
    phrases: set[tuple[str, str]],
    rng: np.random.Generator,
) -> tuple[str, str] | None:
    """A name and a color that nothing has together.

    As with what is there, the pair is one of training in the splits of training, and a held-out
    one in "combos" where it can be: whether a pair was seen before tells nothing.
    """
    kind = sight.kinds[thing]
    barred = names.union(*(_ALIKE[n] for n in names if n in _ALIKE))
    absent_names = [(n, color) for n in _NAMES[kind] if n not in barred]
    absent_colors = [(name, c) for c in _COLORS if c not in colors]
    crossed = [
        (n, c)
        for n in sorted(names)
        for c in sorted(colors)
        if n in _NAMES[kind] and c and (n, c) not in phrases and not _taken(n, c, phrases)
    ]
    held = sight.scene.split == "combos"
    pools = [
        fit
        for pool in (absent_names, absent_colors, crossed)
        if (fit := [pair for pair in pool if held_out_look(*pair) == held])
    ]
    return pick(rng, pick(rng, pools)) if pools else None


def _taken(name: str, color: str, phrases: set[tuple[str, str]]) -> bool:
    """Whether something of this color looks like a thing of this name."""
    return any((other, color) in phrases for other in _ALIKE.get(name, ()))


def _color(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    found = []
    for thing, kind in enumerate(sight.kinds):
        color = sight.colors[thing]
        if kind in _NAMES and color and sight.often[thing]:
            name = sight.plain_name(thing, rng)
            if name:
                found.append(Fact("color", color, {"thing": name}, (thing,)))
    return found


def _shape(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Asked of things that alone have their color at any time."""
    if "sprite" in sight.kinds:
        return []
    have = Counter(color for looks in sight.looks for color in {look.color for look in looks})
    found = []
    for thing, kind in enumerate(sight.kinds):
        color = sight.colors[thing]
        if kind == "shape" and sight.often[thing] and sight.nouns[thing]:
            if thing == sight.largest and rng.random() < 0.3:
                name = "largest"
            elif color and have[color] == 1:
                name = color
            else:
                continue
            found.append(Fact("shape", sight.nouns[thing], {"color": name}, (thing,)))
    return found


def _count(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """How many in all, of a color and of a shape. In films in which things come, go or are hidden
    at times, how many the whole film shows."""
    there = [thing for thing, seen in enumerate(sight.ever) if seen]
    if sight.scene.cursor is not None or not there:
        return []
    lasting = all(sight.always[thing] for thing in there)
    if not lasting and (sight.clear.mean(0)[there] < _SEEN).any():
        return []
    if not all(sight.nouns[thing] for thing in there):
        return []
    if not lasting and len({sight.looks[thing] for thing in there}) < len(there):
        return []  # the same one again, or another like it?
    span = "" if lasting else " in the whole film"
    found = []
    if not sight.cluttered:
        answer, what = str(len(there)), pick(rng, ("things", "objects"))
        found.append(Fact("things", answer, {"what": what, "span": span}, tuple(there)))
        if "sprite" not in sight.kinds and all(sight.colors[thing] for thing in there):
            found += _sorts(sight, there, span, rng)
    nouns = Counter(sight.nouns[thing] for thing in there)
    names = {sight.looks[thing][0].name for thing in there}
    absent = some(rng, [shape for shape in SHAPES if shape not in nouns], 1)
    for noun in [*[n for n in nouns if n in SHAPES], *absent]:
        if names.isdisjoint(_ALIKE.get(noun, ())):
            about = tuple(t for t in there if sight.nouns[t] == noun) or tuple(there)
            fill = {"what": plural(noun), "span": span}
            found.append(Fact("shapes", str(nouns[noun]), fill, about))
    return [fact for fact in found if fact.group == "things" or fact.answer in _FEW]


def _sorts(sight: Sight, there: list[int], span: str, rng: np.random.Generator) -> list[Fact]:
    """How many of a color: those that are there, and one that is not."""
    have = Counter(sight.colors[thing] for thing in there)
    found = []
    for color in [*have, *some(rng, [c for c in _COLORS if c not in have], 1)]:
        fill = {"what": f"{color} {pick(rng, ('things', 'objects'))}", "span": span}
        about = tuple(t for t in there if sight.colors[t] == color) or tuple(there)
        found.append(Fact("colored", str(have[color]), fill, about))
    return found


_COUNT = (
    "How many {what} are there{span}?",
    "How many {what} do you see{span}?",
    "How many {what} can you see{span}?",
    "Count the {what}{span}.",
)
_FEW = tuple(str(n) for n in range(_MOST))

EXISTS = Family(
    "exists", _exists, {name: Group(_EXISTS, choices=_ANY) for name in ("both", "noun", "color")}
)
COLOR = Family(
    "color",
    _color,
    {
        "color": Group(
            (
                "What color is the {thing}?",
                "Which color is the {thing}?",
                "What is the color of the {thing}?",
                "What colour is the {thing}?",
            ),
            choices=_COLORS,
        )
    },
)
SHAPE = Family(
    "shape",
    _shape,
    {
        "shape": Group(
            (
                "What shape is the {color} thing?",
                "What is the shape of the {color} thing?",
                "Which shape is the {color} thing?",
                "What is the {color} thing?",
            ),
            choices=SHAPES,
        )
    },
)
COUNT = Family(
    "count",
    _count,
    {
        "things": Group(_COUNT, choices=tuple(str(n) for n in range(1, _MOST + 1))),
        "colored": Group(_COUNT, choices=_FEW),
        "shapes": Group(_COUNT, choices=_FEW),
    },
)
