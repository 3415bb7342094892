"""A conversation as token ids, and which of them are to be learned: the answers and their ends.

The ids are those that inference would see: each answer stands behind the prompt that generation
gets for it. Where the answers are is found by rendering the chat template on prefixes of the
conversation, so nothing here knows a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsight.core.errors import UserError
from sparsight.core.tokens import Views
from sparsight.vlm.families.base import Family

#: The label of a token that is not learned, as torch's cross-entropy has it.
IGNORED = -100

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Lesson:
    """Token ids, and what the token before each is to predict (`IGNORED` for nothing).

    A label differs from the id at its place only where a template writes no end token behind an
    answer: the label is then the end token that generation stops at.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class _Answer:
    """One answer: the text of the prompt up to it, the text with it, what the template writes
    behind it, and how many media stand before it."""

    before: str
    through: str
    end: str
    media: int


def lesson(family: Family, messages: Sequence[Message], views: Sequence[Views]) -> Lesson:
    """The ids and labels of a conversation.

    Args:
        messages: roles and contents, each content a list of parts as `Family.prompt_text` takes
            them; what follows the last answer is left out.
        views: the views of the media, in the order of the conversation.

    Raises `UserError` when there is no answer or the chat template cannot be split at it.
    """
    found = _answers(family, messages)
    if not found:
        raise UserError("the conversation has no answer to learn")

    def ids_of(text: str, media: int) -> list[int]:
        return family.ids(family.expand(text, views[:media]))

    last = found[-1]
    ids = ids_of(last.through + last.end, last.media)
    labels = [IGNORED] * len(ids)
    for item in found:
        before, through = ids_of(item.before, item.media), ids_of(item.through, item.media)
        start, stop = len(before), len(through)
        if ids[:start] != before or ids[:stop] != through or start == stop:
            raise _unsplit(family, "its tokens run over the borders of an answer")
        labels[start:stop] = ids[start:stop]
        ended = bool(item.end.strip()) and stop < len(ids) and ids[stop] in _special(family)
        end = ids[stop] if ended else _end_token(family)
        if stop < len(ids):
            labels[stop] = end
        if item is last:
            ids, labels = [*ids[:stop], end], [*labels[:stop], end]
    return Lesson(tuple(ids), tuple(labels))


def check_template(family: Family) -> None:
    """Refuse a family whose chat template cannot be split at its answers."""
    question = {"role": "user", "content": [{"type": "text", "text": "what is it ?"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}
    lesson(family, [question, answer], [])


def _answers(family: Family, messages: Sequence[Message]) -> list[_Answer]:
    """Every answer with the text around it, earlier ones as parts of the later prompts."""
    found: list[_Answer] = []
    written = plain = ""  # the text so far, and what the template alone makes of it
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if place == 0:
            raise UserError("a conversation must not begin with an answer")
        history = family.prompt_text(messages[:place], generate=False)
        prompt = family.prompt_text(messages[:place], generate=True)
        after = family.prompt_text(messages[: place + 1], generate=False)
        for longer, shorter in ((history, plain), (prompt, history), (after, history)):
            if not longer.startswith(shorter):
                raise _unsplit(family, "earlier turns change when later ones follow")
        answer = "".join(part["text"] for part in message["content"]).strip()
        if not answer:
            raise UserError(f"the answer in message {place} is empty")
        opening = prompt[len(history) :]
        lead, end = _around(family, after[len(history) :], opening, answer)
        before = written + history[len(plain) :] + opening
        through = before + lead + answer
        media = sum(part["type"] != "text" for m in messages[:place] for part in m["content"])
        found.append(_Answer(before, through, end, media))
        written, plain = through + end, after
    return found


def _around(family: Family, turn: str, opening: str, answer: str) -> tuple[str, str]:
    """What stands in a rendered turn between its opening and the answer, and behind the answer.

    Some templates open a finished turn with other whitespace than they prompt for it with.
    """
    at = turn.find(answer)
    while at >= 0 and turn[:at].split() != opening.split():
        at = turn.find(answer, at + 1)
    if at < 0:
        raise _unsplit(family, "an answer is not written where generation would begin")
    lead = turn[len(opening) : at] if turn.startswith(opening) else ""
    return lead, turn[at + len(answer) :]


def _end_token(family: Family) -> int:
    """The token that ends a generation."""
    ends = family.model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    own = family.tokenizer.eos_token_id
    if own is not None and (own in ends or ends == [None]):
        return int(own)
    if ends == [None]:
        raise UserError(f"{family.label}: the checkpoint names no token that ends an answer")
    return int(ends[0])


def _special(family: Family) -> set[int]:
    """Ids of the tokenizer's special tokens, but for what stands for media."""
    marks = {family.placeholder(kind) for kind in ("image", "video")}
    return set(family.tokenizer.all_special_ids) - marks


def _unsplit(family: Family, why: str) -> UserError:
    return UserError(f"the chat template of {family.label} cannot be split at its answers: {why}")
