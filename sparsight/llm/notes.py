"""Asking a language model about a film by notes of what its clips show (LLoVi, arXiv:2312.17235).

The prompts follow the published ones in what they say and what they leave out; the words are ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsight.core.clip import Clip
from sparsight.core.slots import Caller
from sparsight.llm.replies import intervals

_LOG = logging.getLogger("sparsight.llm")

Turn = Mapping[str, str]

ANSWER = 48  # tokens, where the request does not say
THOUGHTS = 512  # tokens of a first round

_EXPERT = "You are an expert at understanding films from written notes of what they show."
_LETTER = "Answer with the letter of the best option and nothing else."
_SHORT = "Answer in as few words as you can."
_WHERE = (
    "Which notes does one have to see to answer the question? Reply with the smallest interval of "
    "their numbers that is enough, in the form [first, last], and with nothing else. Join several "
    "intervals by the word and."
)
#: What a first round of the same chat is asked for.
FIRST = {
    "cot": "Think about it step by step, and say what speaks for and against each answer.",
    "plan": "Before it is answered, split the question into three smaller ones, and answer each "
    "of them from the notes.",
}


@dataclass(frozen=True)
class Notes:
    """Numbered captions.

    media    what they are about
    lines    for each medium its captions with their numbers
    seconds  of film that lie between one note and the next
    """

    media: Sequence[Clip]
    lines: Sequence[Sequence[tuple[int, str]]]
    seconds: float

    @property
    def most(self) -> int:
        """Notes of the medium that has most."""
        return max(map(len, self.lines), default=1)

    @property
    def length(self) -> str:
        """How long the film is, where it is one film."""
        alone = len(self.media) == 1 and self.media[0].kind == "film"
        return f"The film lasts {self.media[0].duration:.0f} seconds." if alone else ""

    def text(self, every: int = 1) -> str:
        """What the notes are, and one in `every` of them."""
        parts = []
        if self.length:
            parts.append(
                f"{self.length} The notes below tell of clips of {self.seconds * every:g} s that "
                "follow each other without a gap or an overlap."
            )
        for number, (medium, lines) in enumerate(zip(self.media, self.lines, strict=True), 1):
            title = "" if self.length else f"{medium.kind.capitalize()} {number}:\n"
            parts.append(title + narration(lines[::every]))
        return "\n\n".join(parts)


def narration(lines: Sequence[tuple[int, str]]) -> str:
    """Numbered captions, one a line, each with a full stop behind it."""
    return "\n".join(f"{number}: {' '.join(text.split()).rstrip('.')}." for number, text in lines)


@dataclass(frozen=True)
class Asking:
    """One question about notes, and the language model that is asked.

    `options` are the lettered ones, "" for an open question; `before` are earlier turns of the
    conversation, of text.
    """

    llm: Caller
    notes: Notes
    question: str
    options: str = ""
    before: Sequence[Turn] = ()

    @property
    def _asked(self) -> str:
        return f"Question: {self.question}" + (f"\n{self.options}" if self.options else "")

    @property
    def _wanted(self) -> str:
        return _LETTER if self.options else _SHORT

    def directly(self) -> str:
        """The answer from the notes, at once."""
        return self._last(self._fitted(f"{self._asked}\n{self._wanted}", last=True))

    def after(self, first: str) -> str:
        """The answer after a round in the same chat that asks for something else `first`."""
        chat = self._fitted(f"{self._asked}\n{first}", max_tokens=THOUGHTS)
        thoughts = self.llm.say(chat, max_tokens=THOUGHTS)
        said = {"role": "assistant", "content": thoughts}
        return self._last([*chat, said, _user(f"Now decide. {self._wanted}")])

    def summed_up(self, knowing: str, words: int, temperature: float) -> str:
        """The answer from a summary of the notes; each in a chat of its own.

        Args:
            knowing: what the summary is written in view of: "question" (without its options),
                "options" (with them) or "nothing".
            words: how long it should be, about.
            temperature: of the summary.
        """
        why = {
            "nothing": "",
            "question": f"It will be used to answer this question: {self.question}",
            "options": f"It will be used to answer a question. Do not answer it.\n{self._asked}",
        }[knowing]
        longest = 2 * words  # tokens: few languages take more than two a word
        wish = f"Sum up the film from these notes in about {words} words. {why}".strip()
        chat = self._fitted(wish, with_earlier=False, max_tokens=longest)
        summary = self.llm.say(chat, max_tokens=longest, temperature=temperature)
        told = f"{self.notes.length}\nA summary of it:\n{summary}".strip()
        return self._last(self._chat(f"{told}\n\n{self._asked}\n{self._wanted}"))

    def intervals(self) -> list[tuple[int, int]]:
        """The numbers of the notes that show the answer, as `replies.intervals` reads them."""
        chat = self._fitted(f"Question: {self.question}\n{_WHERE}", max_tokens=ANSWER)
        return intervals(self.llm.say(chat, max_tokens=ANSWER))

    def _last(self, chat: Sequence[Turn]) -> str:
        return self.llm.say(chat, max_tokens=ANSWER, last=True)

    def _chat(self, text: str, with_earlier: bool = True) -> list[Turn]:
        before = self.before if with_earlier else ()
        return [{"role": "system", "content": _EXPERT}, *before, _user(text)]

    def _fitted(self, request: str, with_earlier: bool = True, **longest: Any) -> list[Turn]:
        """The chat that asks about the notes: about one in two, three and so on of them where all
        are more than the model can read."""

        def chat(every: int) -> list[Turn]:
            return self._chat(f"{self.notes.text(every)}\n\n{request}".strip(), with_earlier)

        every = _least(self.notes.most, lambda every: self.llm.fits(chat(every), **longest))
        if every > 1:
            _LOG.warning(
                "%d notes are too many for the language model: one in %d is used",
                self.notes.most,
                every,
            )
        return chat(every)


def _user(text: str) -> Turn:
    return {"role": "user", "content": text}


def _least(most: int, fits: Callable[[int], bool]) -> int:
    """The least step from 1 to `most` that fits; `most` if none does."""
    return next((step for step in range(1, most) if fits(step)), most)
