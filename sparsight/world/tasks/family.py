"""Families of questions: facts that a scene shows, and the words they are asked in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sparsight.world.splits import actor, held_out_action, held_out_look
from sparsight.world.tasks.question import Form, Guess, Question, lettered
from sparsight.world.tasks.sight import Sight

V = TypeVar("V")


@dataclass(slots=True)
class Fact:
    """Something that can be asked about a scene, and has one answer.

    `group` is the kind of question within its family; `fill` fills its wording. `about` are the
    things that are asked about, `action` what the first of them does; both empty where the whole
    scene is meant. `choices` override those of the group. `guess` draws wrong answers where there
    are no choices. `stratum` is what exams balance, by default the answer, and `strata` all that
    it may be, by default those of the group. `size` and `slack` as in Question.
    """

    group: str
    answer: str
    fill: dict[str, str]
    about: tuple[int, ...] = ()
    action: str = ""
    choices: tuple[str, ...] = ()
    guess: Guess | None = None
    stratum: str = ""
    strata: tuple[str, ...] = ()
    size: str = ""
    slack: float = 0.0


@dataclass(frozen=True)
class Group:
    """How one kind of question is put and judged.

    `wordings` with places for the fill of its facts; `timed`: begins with how long the film is.
    `choices` are all its answers, () where there are too many or the scene decides; `strata` are
    what exams balance where that is something else.
    """

    wordings: tuple[str, ...]
    scorer: str = "words"
    choices: tuple[str, ...] = ()
    timed: bool = False
    strata: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One task: `find` tells the facts of a scene, at most a few of each answer."""

    task: str
    find: Callable[[Sight, np.random.Generator], list[Fact]]
    groups: Mapping[str, Group]
    films: bool = False  # only films carry it
    needs: str = ""  # the part of a Scene that must not be empty

    def facts(self, sight: Sight, rng: np.random.Generator) -> list[Fact]:
        """All facts; in "combos" only those about held-out pairs or the whole scene."""
        if self.films and sight.frames == 1:
            return []
        if self.needs and not getattr(sight.scene, self.needs):
            return []
        found = self.find(sight, rng)
        if sight.scene.split == "combos":
            found = [fact for fact in found if held_out(fact, sight)]
        return found

    def question(
        self, fact: Fact, sight: Sight, rng: np.random.Generator, form: Form | None
    ) -> Question | None:
        """The question of a fact; None where the form "choice" finds no wrong options."""
        group = self.groups[fact.group]
        text = pick(rng, group.wordings).format(**fact.fill)
        if group.timed:
            text = f"The film lasts {sight.scene.duration:.1f} seconds. {text}"
        question = Question(
            self.task,
            text,
            fact.answer,
            group.scorer,
            fact.choices or group.choices,
            "open",
            fact.size,
            fact.slack,
            fact.about,
        )
        return lettered(question, rng, fact.guess) if form == "choice" else question


def held_out(fact: Fact, sight: Sight) -> bool:
    """Whether a fact is about a pair that training never shows, or about the whole scene."""
    if not fact.about:
        return True
    looks = [look for thing in fact.about for look in sight.looks[thing]]
    return any(held_out_look(look.name, look.color) for look in looks) or (
        bool(fact.action) and held_out_action(actor(sight.looks[fact.about[0]][0]), fact.action)
    )


def choose(facts: Sequence[Fact], rng: np.random.Generator) -> Fact:
    """One of the facts: each group as often, in it each answer as often."""
    groups = list(dict.fromkeys(fact.group for fact in facts))
    if len(groups) > 1:
        group = pick(rng, groups)
        facts = [fact for fact in facts if fact.group == group]
    strata = list(dict.fromkeys(stratum(fact) for fact in facts))
    if len(strata) < len(facts):
        wanted = pick(rng, strata)
        facts = [fact for fact in facts if stratum(fact) == wanted]
    return pick(rng, facts)


def stratum(fact: Fact) -> str:
    """What an exam counts it as."""
    return fact.stratum or fact.answer


def strata(group: Group, fact: Fact) -> tuple[str, ...]:
    """What an exam asks as often as each other in this group; () where all is left to chance."""
    return fact.strata or group.strata or group.choices


def pick(rng: np.random.Generator, items: Sequence[V]) -> V:
    """One of the items; many times as fast as the generator's own choice."""
    return items[int(rng.random() * len(items))]


def some(rng: np.random.Generator, items: Iterable[V], most: int) -> list[V]:
    """At most so many of the items, in random order."""
    pool = list(items)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(min(most, len(pool)))]


def with_article(name: str) -> str:
    """ "an orange ring"; "a letter A"."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
