"""What the words of a question alone give away: the best guess without looking.

Fitted on questions of training, tried on those of an exam. A score means little where this one
is near it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sparsight.world.scene import COLORS, SHAPES
from sparsight.world.tasks import Question, right

_ENOUGH = 8  # questions with the same words, before their answers are trusted
_CANDIDATES = 24  # answers that are tried as the guess where they are many
_JUDGES = 120  # questions on which they are tried, where that takes more than comparing words
_GRADED = ("interval", "segments", "box", "caption")

_NAMES = re.compile(
    rf"\[[^\]]*\]|\b(?:(?:{'|'.join(COLORS)})\s+)?"
    rf"(?:(?:letter|digit) \w\b|(?:{'|'.join(SHAPES)})\b|thing\b|letter\b|digit\b)"
    rf"|\b(?:{'|'.join(COLORS)})\b|\b\d+(?:\.\d+)?\b"
)

#: What is asked, from the most particular to the least: the whole question, its wording without
#: names and numbers, how it begins, its task.
_KEYS: tuple[Callable[[Question], str], ...] = (
    lambda question: question.text,
    lambda question: wording(question),
    lambda question: " ".join(wording(question).split()[:3]),
    lambda question: question.task,
)


def wording(question: Question) -> str:
    """The question without names of things, numbers and options."""
    return _NAMES.sub("_", question.text.split("\n")[0])


class Asked(Protocol):
    """Anything with a question, such as an item of an exam."""

    @property
    def question(self) -> Question: ...


@dataclass(frozen=True)
class Guess:
    """An answer that is always given, or a choice by its place, where the question names them."""

    answer: str = ""
    place: int | None = None

    def reply(self, question: Question) -> str:
        if self.place is None:
            return self.answer
        names = question.choices
        listed = self.place < len(names) and all(name in question.text for name in names)
        return names[self.place] if listed else ""


class Prior:
    """The best text-only predictor that the given questions teach.

    For questions with the same text, where they are enough, else the same wording, else the same
    task, it gives the one answer, or the choice at the one place, that most of them count as
    right.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        known = list(questions)
        self._tables: list[dict[str, Guess]] = []
        for key in _KEYS:
            rows: dict[str, list[Question]] = {}
            for question in known:
                rows.setdefault(key(question), []).append(question)
            least = 1 if key is _KEYS[-1] else _ENOUGH
            self._tables.append(
                {name: _best(row) for name, row in rows.items() if len(row) >= least}
            )

    def guess(self, question: Question) -> str:
        """The answer that it gives; "" to a task that it has never met."""
        for key, table in zip(_KEYS, self._tables, strict=True):
            if key(question) in table:
                return table[key(question)].reply(question)
        return ""

    def score(self, items: Iterable[Asked]) -> float:
        """The share of the items' questions that it answers right."""
        hits = [right(item.question, self.guess(item.question)) for item in items]
        return sum(hits) / max(1, len(hits))


def _best(row: Sequence[Question]) -> Guess:
    """The guess that most of these questions count as right."""
    answers = Counter(question.answer for question in row)
    guesses = [Guess(answer) for answer, _ in answers.most_common(_CANDIDATES)]
    guesses += [Guess(place=place) for place in range(max(len(q.choices) for q in row))]
    judges = row[:: max(1, len(row) // _JUDGES)] if row[0].scorer in _GRADED else row
    return max(guesses, key=lambda guess: sum(_hits(guess, question) for question in judges))


def _hits(guess: Guess, question: Question) -> bool:
    reply = guess.reply(question)
    if reply == question.answer:
        return True
    return question.scorer in _GRADED and right(question, reply)
