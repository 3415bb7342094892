"""Exams: fixed questions about fixed scenes, and what can be scored on them without looking.

Where the answers of a kind of question are few, each is right as often as any other. What the
best guess from the words alone scores is told by `prior`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sparsight.core.errors import UserError, unknown
from sparsight.world.library import Library
from sparsight.world.prior import Prior
from sparsight.world.sampler import sample_scene
from sparsight.world.scene import Scene
from sparsight.world.splits import split_index
from sparsight.world.tasks import FAMILIES, FORMS, TASKS, Form, Question, Sight
from sparsight.world.tasks.family import Fact, Family, choose, pick, strata, stratum

#: Frames of a scene where the caller does not say: pictures; needles among many; long enough for
#: six repetitions; long enough that one guess at a time fits few of them; else DEFAULT_FRAMES.
FRAMES = {
    "exists": 1, "color": 1, "shape": 1, "count": 1, "where": 1, "box": 1, "read": 1, "region": 1,
    "repeat": 16, "when": 16, "summary": 32, "needle": 64,
}  # fmt: skip
DEFAULT_FRAMES = 8

_SCENES = 10_000_000  # seeds of scenes that belong to one seed of an exam
_PATIENCE = 1000  # scenes in a row that carry nothing wanted, before it is given up
_TRIAL = 400  # scenes after which an answer that none of them had is no longer waited for


@dataclass(frozen=True)
class Item:
    """A question about a scene."""

    scene: Scene
    question: Question


def exam(
    task: str,
    split: str = "test",
    count: int = 2000,
    *,
    frames: int | None = None,
    fps: float = 2.0,
    aspect: float = 1.0,
    seed: int = 0,
    form: Form = "open",
    library: Library | None = None,
) -> Iterator[Item]:
    """`count` questions of a task, each about a scene of its own; always the same ones.

    Answers of closed questions are balanced: within a kind of question no answer is right more
    often than another, as far as such scenes have it at all. In the split "combos" every question
    is about a pair that training never shows, or about a scene that holds one.

    frames: 1 for pictures, None for as many as suits the task. Other arguments as `sample_scene`.
    Raises UserError for what is unknown or out of range, and where such scenes carry no question
    of the task.
    """
    if task not in FAMILIES:
        raise unknown("task", task, TASKS)
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if count < 1:
        raise UserError(f"{count} questions are out of range: take 1 or more")
    if not 0 <= seed < 100_000:
        raise UserError(f"seed {seed} of an exam is out of range: take 0 to 99,999")
    family, ledger = FAMILIES[task], _Ledger()
    shown = frames if frames is not None else FRAMES.get(task, DEFAULT_FRAMES)
    rng = np.random.default_rng([split_index(split), seed, FORMS.index(form)])
    found = waited = 0
    for place in range(_SCENES):
        scene = sample_scene(
            seed * _SCENES + place, split, task,
            frames=shown, fps=fps, aspect=aspect, library=library,
        )  # fmt: skip
        sight = Sight(scene)
        fact = ledger.wanted(family, family.facts(sight, rng), rng)
        question = family.question(fact, sight, rng, form) if fact else None
        waited += 1
        if fact is None or question is None:
            if waited == _PATIENCE:
                raise UserError(
                    f"scenes of {shown} frames carry no more questions of task {task!r}"
                )
            continue
        ledger.count(fact)
        yield Item(scene, question)
        found, waited = found + 1, 0
        if found == count:
            return


def prior(
    task: str,
    count: int = 2000,
    *,
    frames: int | None = None,
    fps: float = 2.0,
    aspect: float = 1.0,
    seed: int = 0,
    form: Form = "open",
    library: Library | None = None,
) -> Prior:
    """The best guess from the words alone, learned from `count` questions of training put as in
    the exam: `prior("move").score(exam("move"))` is what a blind model reaches."""
    items = exam(
        task, "train", count,
        frames=frames, fps=fps, aspect=aspect, seed=seed, form=form, library=library,
    )  # fmt: skip
    return Prior(item.question for item in items)


@dataclass
class _Ledger:
    """How often what was asked. `open` (group -> strata) are those that are balanced."""

    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    offered: set[tuple[str, str]] = field(default_factory=set)
    scenes: Counter[str] = field(default_factory=Counter)

    def wanted(self, family: Family, facts: list[Fact], rng: np.random.Generator) -> Fact | None:
        """A fact that may be asked without putting its answer ahead of others, or None."""
        groups = list(dict.fromkeys(fact.group for fact in facts))
        while groups:
            group = pick(rng, groups)
            groups.remove(group)
            mine = [fact for fact in facts if fact.group == group]
            self.scenes[group] += 1
            self.offered |= {(group, stratum(fact)) for fact in mine}
            all_strata = strata(family.groups[group], mine[0])
            if not all_strata:
                return choose(mine, rng)
            least = self._least(group, all_strata)
            fit = [fact for fact in mine if self.asked[group, stratum(fact)] <= least]
            if fit:
                return choose(fit, rng)
        return None

    def _least(self, group: str, all_strata: tuple[str, ...]) -> int:
        """How often the rarest answer was asked for, of those that there are."""
        trial = self.scenes[group] < _TRIAL
        return min(
            self.asked[group, name] for name in all_strata if trial or (group, name) in self.offered
        )

    def count(self, fact: Fact) -> None:
        self.asked[fact.group, stratum(fact)] += 1
