"""Questions about a scene whose exact answer the scene itself gives.

Only unambiguous questions are asked, and answers are drawn so that nothing but the pixels tells
them: yes as often as no, colors, shapes, letters and directions evenly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from mini_scenes import COLORS, LETTERS, SHAPES, SIDE, Scene, Thing

PICTURE_TASKS = ("color", "shape", "exists", "count", "letter", "where")
FILM_TASKS = (*PICTURE_TASKS, "move", "first")

WORDINGS: dict[str, tuple[str, ...]] = {
    "color": (
        "What color is the {}?",
        "Which color is the {}?",
        "What is the color of the {}?",
        "What colour is the {}?",
    ),
    "shape": (
        "What shape is {}?",
        "Which shape is {}?",
        "What shape is the {} thing?",
        "What is the shape of the {} thing?",
        "What is the {} thing?",
    ),
    "exists": ("Is there {}?", "Do you see {}?", "Can you see {}?", "Is {} there?"),
    "count": (
        "How many {} are there?",
        "How many {} do you see?",
        "How many {} can you see?",
        "Count the {}.",
    ),
    "letter": (
        "Which letter is shown?",
        "What letter is shown?",
        "Which letter is there?",
        "What letter do you see?",
        "What is the letter?",
    ),
    "where": (
        "Where is the {}?",
        "On which side is the {}?",
        "Where do you see the {}?",
        "Where can you find the {}?",
    ),
    "move": (
        "Which way does the {} move?",
        "In which direction does the {} move?",
        "Where does the {} move?",
        "Which way is the {} moving?",
        "Which way does the {} go?",
    ),
    "first": (
        "Which comes first, {} or {}?",
        "Which appears first, {} or {}?",
        "What comes first, {} or {}?",
        "What do you see first, {} or {}?",
    ),
}


@dataclass(frozen=True)
class Question:
    """A question in words, its task, its exact answer, and the answers it could have."""

    task: str
    text: str
    answer: str
    choices: tuple[str, ...]


def score(question: Question, reply: str) -> bool:
    """True when the reply is the answer, whatever its case, article and final stop."""
    return _plain(reply) == _plain(question.answer)


def _plain(text: str) -> str:
    return text.strip().rstrip(".!").lower().removeprefix("the ").strip()


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Up to two questions a task, in random order; tasks that would be ambiguous are left out."""
    asked = [
        *_colors(scene, rng),
        *_shapes(scene, rng),
        *_exists(scene, rng),
        *_counts(scene, rng),
        *_letter(scene, rng),
        *_where(scene, rng),
        *_moves(scene, rng),
        *_first(scene, rng),
    ]
    return [asked[i] for i in rng.permutation(len(asked))]


def _ask(
    rng: np.random.Generator,
    task: str,
    words: tuple[str, ...],
    answer: str,
    choices: Iterable[str],
) -> Question:
    wording = str(rng.choice(WORDINGS[task]))
    return Question(task, wording.format(*words), answer, tuple(choices))


def _some(rng: np.random.Generator, items: list[Thing], most: int = 2) -> list[Thing]:
    return [items[i] for i in rng.permutation(len(items))[:most]]


def _colors(scene: Scene, rng: np.random.Generator) -> list[Question]:
    kinds = Counter(thing.kind for thing in scene.things)
    alone = [thing for thing in scene.things if kinds[thing.kind] == 1]
    nouns = [
        (thing, "letter" if thing.is_letter and rng.random() < 0.5 else thing.noun)
        for thing in _some(rng, alone)
    ]
    return [_ask(rng, "color", (noun,), thing.color, COLORS) for thing, noun in nouns]


def _shapes(scene: Scene, rng: np.random.Generator) -> list[Question]:
    colors = Counter(thing.color for thing in scene.things)
    alone = [t for t in scene.things if colors[t.color] == 1 and not t.is_letter]
    return [_ask(rng, "shape", (t.color,), t.kind, SHAPES) for t in _some(rng, alone)]


def _exists(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """One question with yes and one with no, of the same form: color and shape, shape, color or
    letter. A no about color and shape often mixes a color and a shape that are both there."""
    form = rng.choice(["both", "both", "both", "kind", "color"])
    there = scene.things[int(rng.integers(len(scene.things)))]
    kinds = {thing.kind for thing in scene.things}
    colors = {thing.color for thing in scene.things}
    absent_color = str(rng.choice([c for c in COLORS if c not in colors]))
    absent_kind = str(
        rng.choice([k for k in (LETTERS if there.is_letter else SHAPES) if k not in kinds])
    )
    noun = f"letter {absent_kind}" if there.is_letter else absent_kind
    if form == "kind":
        yes, no = there.noun, noun
    elif form == "color":
        yes, no = f"{there.color} thing", f"{absent_color} thing"
    else:
        looks = {thing.name for thing in scene.things}
        mixed = [
            name
            for color in sorted(colors)
            for other in scene.things
            if other.is_letter == there.is_letter and (name := f"{color} {other.noun}") not in looks
        ]
        wrong = [f"{there.color} {noun}", f"{absent_color} {there.noun}", *mixed]
        yes, no = there.name, str(rng.choice(wrong))
    return [
        _ask(rng, "exists", (_with_article(name),), answer, ("yes", "no"))
        for name, answer in ((yes, "yes"), (no, "no"))
    ]


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _counts(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """How many things in all, and how many of one color or shape (none, one or more)."""
    word = str(rng.choice(["things", "objects"]))
    most = 3 if scene.is_film else 4
    total = [str(n) for n in range(1, most + 1)]
    asked = [_ask(rng, "count", (word,), str(len(scene.things)), total)]
    if rng.random() < 0.5:
        have = Counter(thing.color for thing in scene.things)
        pool = {color: f"{color} {word}" for color in COLORS}
    else:
        have = Counter(thing.kind for thing in scene.things if not thing.is_letter)
        pool = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
    # Two or more of a sort are rare, so they are asked about whenever they are there.
    several = [sort for sort, n in have.items() if n > 1]
    none = [sort for sort in pool if sort not in have]
    candidates = several or (list(have) if have and rng.random() < 0.5 else none)
    sort = str(rng.choice(candidates))
    asked.append(_ask(rng, "count", (pool[sort],), str(have[sort]), ["0", *total]))
    return asked


def _letter(scene: Scene, rng: np.random.Generator) -> list[Question]:
    return [_ask(rng, "letter", (), t.kind, LETTERS) for t in scene.things if t.is_letter]


def _where(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """For things that stay on one side: far from the centre one way, clearly less the other."""
    asked = []
    for thing in _some(rng, [t for t in scene.things if t.motion == "still"]):
        x, y = thing.start[0] - SIDE / 2, thing.start[1] - SIDE / 2
        if max(abs(x), abs(y)) < 16 or abs(abs(x) - abs(y)) < 10:
            continue
        side = ("right" if x > 0 else "left") if abs(x) > abs(y) else "bottom" if y > 0 else "top"
        choices = ("left", "right", "top", "bottom")
        asked.append(_ask(rng, "where", (_short(scene, thing, rng),), side, choices))
    return asked


def _moves(scene: Scene, rng: np.random.Generator) -> list[Question]:
    moving = [thing for thing in scene.things if thing.motion != "still"]
    choices = ("left", "right", "up", "down")
    return [
        _ask(rng, "move", (_short(scene, thing, rng),), thing.motion, choices)
        for thing in _some(rng, moving)
    ]


def _short(scene: Scene, thing: Thing, rng: np.random.Generator) -> str:
    """ "red circle", or sometimes just "circle" where there is only one."""
    alone = sum(other.kind == thing.kind for other in scene.things) == 1
    return thing.noun if alone and rng.random() < 0.3 else thing.name


def _first(scene: Scene, rng: np.random.Generator) -> list[Question]:
    if len({thing.appear for thing in scene.things}) < 2:
        return []
    a, b = _some(rng, list(scene.things))
    earlier = a if a.appear < b.appear else b
    words = (f"the {a.name}", f"the {b.name}")
    return [_ask(rng, "first", words, earlier.name, (a.name, b.name))]
