"""Questions with their exact answers, open or with lettered options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sparsight.world.tasks.scoring import LABELS, SCORERS

Form = Literal["open", "choice"]
FORMS: tuple[Form, ...] = ("open", "choice")
OPTIONS = 4  # at most so many options, one of them right
_TRIES = 40

#: Draws something that could be the answer of such a question.
Guess = Callable[[np.random.Generator], str]


@dataclass(frozen=True, slots=True)
class Question:
    """A question in words and its one answer.

    `scorer` is a key of SCORERS. `choices` are all answers there can be, () where they are too
    many to name; in the form "choice" they are the texts of the options and the answer is a
    letter. `size` is the size of the text to be read, "" elsewhere. `slack`: how many seconds the
    times of a caption may be off. `about`: the things of the scene that it asks about, by number;
    none where the whole scene is meant.
    """

    task: str
    text: str
    answer: str
    scorer: str = "words"
    choices: tuple[str, ...] = ()
    form: Form = "open"
    size: str = ""
    slack: float = 0.0
    about: tuple[int, ...] = ()


def score(question: Question, reply: str) -> float:
    """How good a reply is, 0 to 1: overlap of intervals and boxes, F1 of segments and captions,
    0 or 1 elsewhere. Never raises, whatever the reply."""
    return SCORERS[question.scorer](reply, question.answer, question.choices, question.slack)


def right(question: Question, reply: str) -> bool:
    """Whether a reply counts as right: a score of one half or more."""
    return score(question, reply) >= 0.5


def lettered(question: Question, rng: np.random.Generator, guess: Guess | None) -> Question | None:
    """The same question with up to four lettered options in random order; the answer is a letter.

    The other options come from its choices, or from `guess` where it has none. None where no
    wrong option is to be had.
    """
    options = [question.answer]
    if question.choices:
        others = [name for name in question.choices if name != question.answer]
        options += [others[i] for i in rng.permutation(len(others))[: OPTIONS - 1]]
    elif guess is not None:
        for _ in range(_TRIES):
            option = guess(rng)
            if not any(_alike(question, known, option) for known in options):
                options.append(option)
            if len(options) == OPTIONS:
                break
    if len(options) < 2:
        return None
    order = rng.permutation(len(options))
    options = [options[i] for i in order]
    listed = " ".join(f"{label}. {option}" for label, option in zip(LABELS, options, strict=False))
    return replace(
        question,
        text=f"{question.text}\n{listed}",
        answer=LABELS[int(np.flatnonzero(order == 0)[0])],
        scorer="choice",
        choices=tuple(options),
        form="choice",
    )


def _alike(question: Question, known: str, option: str) -> bool:
    """Whether two options can be mistaken for each other: a third of overlap is too much."""
    return SCORERS[question.scorer](option, known, (), question.slack) > 1 / 3
