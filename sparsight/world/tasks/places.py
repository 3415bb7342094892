"""Where things are and what signs say: sides, boxes, regions, reading."""

from __future__ import annotations

import numpy as np

from sparsight.world.scene import COLORS, DIGITS, LETTERS, SHAPES, TEXT_SIZES
from sparsight.world.sprites import SIGN_LETTERS
from sparsight.world.tasks.family import Fact, Family, Group, pick, some
from sparsight.world.tasks.question import Guess
from sparsight.world.tasks.sight import Sight

SIDES = ("left", "right", "top", "bottom")
RELATIONS = ("left", "right", "above", "below")
_FAR = 0.17  # shares of the picture from its middle to what lies on a side of it
_CLEARLY = 0.1  # shares, or units, that one axis must be ahead of the other
_APART = 0.12  # units between the middles of two things that lie beside each other
_PAIRS = 6  # pairs of things that are looked at
_CROWDED = 0.3  # share of a box that others may take where it is described
_SMALLER = (0.075, 0.12, 0.185)  # units between the sizes of text


def side(x: float, y: float) -> str:
    """The side of the picture on which a point in shares of it clearly lies, else ""."""
    right, down = x - 0.5, y - 0.5
    across, along = abs(right), abs(down)
    if max(across, along) < _FAR or abs(across - along) < _CLEARLY:
        return ""
    if across > along:
        return "right" if right > 0 else "left"
    return "bottom" if down > 0 else "top"


def _where(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Of things at rest: on which side of the picture, and on which side of another thing."""
    still = [thing for thing in range(sight.count) if sight.still[thing] and sight.names[thing]]
    middles = sight.middle[0].tolist()
    found = []
    for thing in still:
        answer = side(*middles[thing])
        if answer:
            found.append(Fact("side", answer, {"thing": sight.name(thing, rng) or ""}, (thing,)))
    pairs = [(a, b) for a in still for b in still if a != b]
    for a, b in some(rng, pairs, _PAIRS):
        answer = _relation(sight, a, b)
        if answer:
            fill = {"thing": sight.name(a, rng) or "", "other": sight.name(b, rng) or ""}
            found.append(Fact("beside", answer, fill, (a, b)))
    return found


def _relation(sight: Sight, a: int, b: int) -> str:
    """Where a lies, seen from b, if that is clear."""
    box, other = sight.box[0, a].tolist(), sight.box[0, b].tolist()
    scene = sight.scene
    right = (box[0] + box[2] - other[0] - other[2]) / 2 * scene.width
    down = (box[1] + box[3] - other[1] - other[3]) / 2 * scene.height
    across, along = abs(right), abs(down)
    if max(across, along) < _APART or abs(across - along) < _CLEARLY:
        return ""
    if across > along:
        apart = box[2] <= other[0] or other[2] <= box[0]
        return ("right" if right > 0 else "left") if apart else ""
    apart = box[3] <= other[1] or other[3] <= box[1]
    return ("below" if down > 0 else "above") if apart else ""


def _box(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    return [
        Fact("box", sight.percent(thing), {"thing": name}, (thing,), guess=guess_box)
        for thing in range(sight.count)
        if _boxed(sight, thing) and (name := sight.name(thing, rng))
    ]


def _boxed(sight: Sight, thing: int) -> bool:
    """Whether a thing keeps its box and fills it: handwriting leaves a good part of it empty."""
    return sight.still[thing] and sight.kinds[thing] != "digit"


def guess_box(rng: np.random.Generator) -> str:
    wide, tall = (12 + 25 * rng.random(2)).tolist()
    left, top = (100 - wide) * rng.random(), (100 - tall) * rng.random()
    return f"[{left:.0f}, {top:.0f}, {left + wide:.0f}, {top + tall:.0f}]"


def _region(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """What is in a box that one thing fills, and the box of what is described."""
    found = []
    for thing in range(sight.count):
        if not sight.still[thing] or sight.kinds[thing] == "sign":
            continue
        box = sight.percent(thing)
        looks = sight.looks[thing]
        if len(looks) == 1 and _alone(sight, thing):
            guess = guess_phrase(sight, thing)
            found.append(Fact("describe", looks[0].phrase, {"box": box}, (thing,), guess=guess))
        name = "largest thing" if thing == sight.largest else sight.name(thing, rng)
        if name and _boxed(sight, thing):
            found.append(Fact("locate", box, {"thing": name}, (thing,), guess=guess_box))
    return found


def _alone(sight: Sight, thing: int) -> bool:
    """Whether nothing else takes a good part of a thing's box in any frame."""
    box = sight.clip[:, thing, None]
    low = np.maximum(box[..., :2], sight.clip[..., :2])
    high = np.minimum(box[..., 2:], sight.clip[..., 2:])
    shared = np.nan_to_num(np.maximum(high - low, 0.0)).prod(-1)
    own = (box[..., 2:] - box[..., :2]).prod(-1)
    shared[:, thing] = 0
    return bool((shared <= _CROWDED * own).all())


def guess_phrase(sight: Sight, thing: int) -> Guess:
    """Phrases of the other things, and of things that are not there."""
    phrases = [look.phrase for k, looks in enumerate(sight.looks) if k != thing for look in looks]

    def guess(rng: np.random.Generator) -> str:
        if phrases and rng.random() < 0.5:
            return pick(rng, phrases)
        kind = pick(rng, ("shape", "shape", "letter", "digit"))
        if kind == "shape":
            return f"{pick(rng, tuple(COLORS))} {pick(rng, SHAPES)}"
        return f"{pick(rng, tuple(COLORS))} {kind} {pick(rng, guess_names(kind))}"

    return guess


def guess_names(kind: str) -> tuple[str, ...]:
    return LETTERS if kind == "letter" else DIGITS


def _read(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Signs that nothing covers; with several, each named by the color of its letters."""
    signs = [
        thing for thing, kind in enumerate(sight.kinds) if kind == "sign" and sight.ever[thing]
    ]
    found = []
    for thing in signs:
        looks = sight.looks[thing]
        colors = [look.color for other in signs for look in sight.looks[other]]
        if len(looks) > 1 or not sight.always[thing] or not readable(sight, thing):
            continue
        if len(signs) > 1 and colors.count(looks[0].color) > 1:
            continue
        which = "" if len(signs) == 1 else f" with {looks[0].color} letters"
        size, text = text_size(sight, thing), looks[0].name
        guess = guess_text(text)
        found.append(Fact("sign", text, {"which": which}, guess=guess, stratum=size, size=size))
    return found


def readable(sight: Sight, thing: int, frame: int | None = None) -> bool:
    """Whether a sign is whole and uncovered, in a frame or in all."""
    frames = slice(None) if frame is None else slice(frame, frame + 1)
    box = sight.box[frames, thing]
    whole = (box[:, :2] >= -0.005).all() and (box[:, 2:] <= 1.005).all()
    return bool(whole and (sight.covered[frames, thing] <= 0.01).all())


def text_size(sight: Sight, thing: int) -> str:
    """Tiny to large, by the height of the letters in the first frame."""
    what = sight.scene.things[thing]
    zoom = sight.scene.camera.zoom.values[0] * what.scale.values[0]
    tall = what.height * zoom * SIGN_LETTERS
    return tuple(TEXT_SIZES)[sum(tall > edge for edge in _SMALLER)]


def guess_text(text: str) -> Guess:
    """Other texts of the same length."""
    letters = tuple("".join(LETTERS) + "346789")
    return lambda rng: "".join(pick(rng, letters) for _ in text)


WHERE = Family(
    "where",
    _where,
    {
        "side": Group(
            (
                "Where is the {thing}?",
                "On which side is the {thing}?",
                "Where do you see the {thing}?",
                "Where can you find the {thing}?",
            ),
            choices=SIDES,
        ),
        "beside": Group(
            (
                "Where is the {thing}, seen from the {other}: left, right, above or below?",
                "Where does the {thing} lie from the {other}: left, right, above or below?",
                "On which side of the {other} is the {thing}?",
            ),
            choices=RELATIONS,
        ),
    },
)
BOX = Family(
    "box",
    _box,
    {
        "box": Group(
            (
                "What is the box of the {thing}?",
                "Give the box of the {thing}.",
                "In which box is the {thing}?",
                "Draw a box around the {thing}.",
            ),
            "box",
        )
    },
)
REGION = Family(
    "region",
    _region,
    {
        "describe": Group(
            (
                "What is in the box {box}?",
                "Describe what the box {box} shows.",
                "What do you see in the region {box}?",
            )
        ),
        "locate": Group(
            (
                "Which region shows the {thing}?",
                "In which region is the {thing}?",
                "Mark the region of the {thing}.",
            ),
            "box",
        ),
    },
)
READ = Family(
    "read",
    _read,
    {
        "sign": Group(
            (
                "What does the sign{which} say?",
                "What is written on the sign{which}?",
                "Read the sign{which}.",
                "Which text is on the sign{which}?",
            ),
            "text",
            strata=tuple(TEXT_SIZES),
        )
    },
)
