"""Questions about scenes, each with its exact answer and scorer: one family a task.

Only what the frames show clearly is asked, and only where one answer is right. Answers are drawn
so that nothing but the pixels tells them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sparsight.core.errors import unknown
from sparsight.world.scene import Scene
from sparsight.world.tasks import looks, motion, places, states, timing
from sparsight.world.tasks.dialogue import converse
from sparsight.world.tasks.family import Family, choose
from sparsight.world.tasks.question import FORMS, Form, Question, lettered, right, score
from sparsight.world.tasks.sight import Sight

__all__ = [
    "FAMILIES", "FORMS", "SEEN", "TASKS", "Form", "Question", "Sight", "ask", "conversation",
    "lettered",
    "questions", "right", "score",
]  # fmt: skip

_ALL = (
    looks.EXISTS, looks.COLOR, looks.SHAPE, looks.COUNT, places.WHERE, places.BOX, places.READ,
    motion.MOVE, motion.ORDER, motion.REPEAT, timing.WHEN, timing.NEEDLE, states.STATE,
    states.CAUSE, timing.CAPTION, timing.SUMMARY, states.SOUND, places.REGION, states.NARRATE,
)  # fmt: skip
FAMILIES: dict[str, Family] = {family.task: family for family in _ALL}
TASKS: tuple[str, ...] = tuple(FAMILIES)
#: Those that are answered by looking; "sound" takes hearing.
SEEN = tuple(task for task in TASKS if task != "sound")


def ask(
    task: str, scene: Scene, rng: np.random.Generator, form: Form | None = None
) -> Question | None:
    """A question of a task; None where the scene cannot carry an unambiguous one.

    form: "open" (also by default) or "choice". Raises UserError for an unknown task.
    """
    if task not in FAMILIES:
        raise unknown("task", task, TASKS)
    sight, family = Sight(scene), FAMILIES[task]
    facts = family.facts(sight, rng)
    return family.question(choose(facts, rng), sight, rng, form) if facts else None


def questions(
    scene: Scene,
    rng: np.random.Generator,
    tasks: Iterable[str] | None = None,
    most: int = 2,
    *,
    choice: float = 0.0,
) -> list[Question]:
    """Up to `most` questions a task, in random order; tasks that would be ambiguous are left out.

    tasks: by default all that are answered by looking, so all but "sound". choice: the share of
    questions with lettered options. Raises UserError for an unknown task.
    """
    sight = Sight(scene)
    asked: list[Question] = []
    for task in SEEN if tasks is None else tasks:
        if task not in FAMILIES:
            raise unknown("task", task, TASKS)
        family = FAMILIES[task]
        facts = family.facts(sight, rng)
        for _ in range(most):
            if not facts:
                break
            fact = choose(facts, rng)
            # what is asked next differs in its answer too, where it can
            others = [f for f in facts if f.group != fact.group or f.answer != fact.answer]
            facts = others or [f for f in facts if f is not fact]
            form: Form = "choice" if choice and rng.random() < choice else "open"
            question = family.question(fact, sight, rng, form)
            if question is not None:
                asked.append(question)
    return [asked[i] for i in rng.permutation(len(asked))]


def conversation(scene: Scene, rng: np.random.Generator, turns: int) -> list[Question]:
    """At most `turns` questions in the order in which they are asked; later ones refer back:
    "What about the ring?", "And its color?". No turn is answered by what was said before."""
    seen = {task: FAMILIES[task] for task in SEEN}
    return converse(seen, Sight(scene), rng, turns)
