"""Questions about a room whose exact answers follow from its description.

Only what is seen clearly is asked about, and only differences that can be seen. Answers are drawn
first and then a question for them, so that words alone tell nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from sparsight.core.errors import unknown
from sparsight.world.space.rays import sight
from sparsight.world.space.room import Room, held_out_solid
from sparsight.world.space.sample import MOST_THINGS, clear
from sparsight.world.tasks.question import FORMS, Form, Question, lettered

_NEARER = 0.4  # metres that a thing must be nearer to be called so
_BESIDE = 0.08  # of the width of the picture that it must be further left
#: Metres between things and from cameras to things: what is asked about and the wrong options are
#: spread alike over these, each ratio as often.
_APART, _AWAY = (1.0, 5.0), (2.1, 6.3)

WORDINGS: dict[str, tuple[str, ...]] = {
    "nearer": (
        "In view {view}, which is nearer to the camera, the {a} or the {b}?",
        "Which is closer to the camera in view {view}, the {a} or the {b}?",
        "Which stands nearer to the camera of view {view}, the {a} or the {b}?",
    ),
    "side": (
        "In view {view}, is the {a} left or right of the {b}?",
        "Is the {a} to the left or to the right of the {b} in view {view}?",
        "On which side of the {b} is the {a} in view {view}, left or right?",
    ),
    "distance": (
        "How many metres is it from the middle of the {a} to {other}?",
        "How far is the middle of the {a} from {other}, in metres?",
        "What is the distance in metres between the middle of the {a} and {other}?",
    ),
    "things": (
        "How many things are in the room?",
        "How many things do the views show together?",
        "Count the things in the room.",
    ),
}
ROOM_TASKS = tuple(WORDINGS)


def room_questions(
    room: Room,
    rng: np.random.Generator,
    tasks: Iterable[str] | None = None,
    form: Form = "open",
) -> list[Question]:
    """One question a task, in random order; tasks that the room cannot carry are left out.

    Views are counted from 1 in the order of `room.eyes`. Distances are between centres, in metres
    with one decimal. `form` "choice" gives up to four lettered options. Raises `UserError` for an
    unknown task or form.
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    facts = _facts(room)
    asked = []
    for task in ROOM_TASKS if tasks is None else tasks:
        if task not in _ASK:
            raise unknown("task of rooms", task, ROOM_TASKS)
        question = _ASK[task](facts, rng)
        if question is not None and form == "choice":
            question = lettered(question, rng, partial(_other_distance, question))
        if question is not None:
            asked.append(question)
    return [asked[i] for i in rng.permutation(len(asked))]


@dataclass(frozen=True)
class _Facts:
    """What the questions need. All (V, K): `clear` whether a thing is seen well, `far` from the
    camera to its centre and `front` to its surface, in metres, `depth` along the camera's axis,
    `across` its centre in shares of the width. `middle` (V, K): the same of what is seen of it."""

    room: Room
    clear: np.ndarray
    far: np.ndarray
    front: np.ndarray
    depth: np.ndarray
    across: np.ndarray
    middle: np.ndarray

    def name(self, thing: int) -> str:
        return self.room.solids[thing].phrase

    def subject(self, *things: int) -> bool:
        """Whether a question about these may be asked: in "combos" one must be held out."""
        solids = [self.room.solids[thing] for thing in things]
        return self.room.split != "combos" or any(held_out_solid(s.shape, s.color) for s in solids)


def _facts(room: Room) -> _Facts:
    found = sight(room)
    centres = room.centres()
    pose, lens = room.extrinsics(), room.intrinsics(1000)
    seen = np.einsum("vij,kj->vki", pose[:, :, :3], centres) + pose[:, None, :, 3]  # (V, K, 3)
    far = np.linalg.norm(seen, axis=-1)
    across = lens[:, None, 0, 0] * seen[..., 0] / seen[..., 2] + lens[:, None, 0, 2]
    return _Facts(
        room,
        clear(found),
        far,
        far - [solid.reach for solid in room.solids],
        seen[..., 2],
        across / room.pixels(1000)[1],
        (found.boxes[..., 0] + found.boxes[..., 2]) / 2,
    )


def _nearer(facts: _Facts, rng: np.random.Generator) -> Question | None:
    def before(view: int, a: int, b: int) -> bool:
        return bool(
            facts.far[view, a] + _NEARER < facts.far[view, b]
            and facts.front[view, a] < facts.front[view, b]
            and facts.depth[view, a] < facts.depth[view, b]
        )

    found = _relation(facts, before, rng)
    if found is None:
        return None
    view, first, second = found
    a, b = (facts.name(i) for i in rng.permutation((first, second)))
    text = str(rng.choice(WORDINGS["nearer"])).format(view=view + 1, a=a, b=b)
    return Question("nearer", text, facts.name(first), "words", (a, b))


def _side(facts: _Facts, rng: np.random.Generator) -> Question | None:
    def before(view: int, a: int, b: int) -> bool:
        return bool(
            facts.across[view, a] + _BESIDE < facts.across[view, b]
            and facts.middle[view, a] + _BESIDE / 2 < facts.middle[view, b]
        )

    found = _relation(facts, before, rng)
    if found is None:
        return None
    view, first, second = found
    answer = str(rng.choice(["left", "right"]))
    a, b = (first, second) if answer == "left" else (second, first)
    text = str(rng.choice(WORDINGS["side"]))
    text = text.format(view=view + 1, a=facts.name(a), b=facts.name(b))
    return Question("side", text, answer, "words", ("left", "right"))


def _relation(
    facts: _Facts, before: Callable[[int, int, int], bool], rng: np.random.Generator
) -> tuple[int, int, int] | None:
    """A view and two things of which the first is before the second in it.

    Pairs that are one way round in this view and the other in that come first: only who looks at
    the view that is asked about knows. Of such a pair either order is drawn as often.
    """
    views, things = facts.clear.shape
    both: list[list[list[tuple[int, int, int]]]] = []
    one: list[list[list[tuple[int, int, int]]]] = []
    for a, b in combinations(range(things), 2):
        if not facts.subject(a, b):
            continue
        shown = [v for v in range(views) if facts.clear[v, a] and facts.clear[v, b]]
        orders = [[(v, x, y) for v in shown if before(v, x, y)] for x, y in ((a, b), (b, a))]
        held = [order for order in orders if order]
        if held:
            (both if len(held) == 2 else one).append(held)
    pairs = both or one
    if not pairs:
        return None
    orders = pairs[int(rng.integers(len(pairs)))]
    order = orders[int(rng.integers(len(orders)))]
    return order[int(rng.integers(len(order)))]


def _distance(facts: _Facts, rng: np.random.Generator) -> Question | None:
    centres = facts.room.centres()
    known = np.flatnonzero(facts.clear.any(0)).tolist()
    apart = [
        (float(np.linalg.norm(centres[a] - centres[b])), a, f"the middle of the {facts.name(b)}")
        for a, b in (rng.permutation(pair).tolist() for pair in combinations(known, 2))
        if facts.subject(a, b)
    ]
    away = [
        (float(facts.far[view, thing]), thing, f"the camera of view {view + 1}")
        for view, thing in np.argwhere(facts.clear).tolist()
        if facts.subject(thing)
    ]
    found, spread = (apart, _APART) if apart and rng.random() < 0.5 else (away, _AWAY)
    if not found:
        return None
    wanted = _drawn(spread, rng)
    metres, thing, other = min(found, key=lambda item: abs(math.log(item[0] / wanted)))
    text = str(rng.choice(WORDINGS["distance"])).format(a=facts.name(thing), other=other)
    return Question("distance", text, f"{metres:.1f}", "metres")


def _drawn(spread: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(*np.log(spread)))


def _other_distance(question: Question, rng: np.random.Generator) -> str:
    """A wrong option."""
    return f"{_drawn(_AWAY if 'the camera of' in question.text else _APART, rng):.1f}"


def _things(facts: _Facts, rng: np.random.Generator) -> Question | None:
    if not facts.clear.any(0).all() or not facts.subject(*range(len(facts.room.solids))):
        return None
    text = str(rng.choice(WORDINGS["things"]))
    choices = tuple(str(n) for n in range(1, MOST_THINGS + 1))
    return Question("things", text, str(len(facts.room.solids)), "words", choices)


_ASK: dict[str, Callable[[_Facts, np.random.Generator], Question | None]] = {
    "nearer": _nearer,
    "side": _side,
    "distance": _distance,
    "things": _things,
}
