"""OpenAI-style messages: reading them, and finding the media inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsight.core.errors import UserError, unknown

_ROLES = ("system", "user", "assistant")
_MEDIA = ("image", "video", "image_url", "video_url")


@dataclass(frozen=True)
class Turn:
    """One message: its role and its parts, each a text (str) or a place in `Conversation.media`."""

    role: str
    parts: tuple[str | int, ...]


@dataclass(frozen=True)
class Conversation:
    """Messages with their media taken out, in order."""

    turns: tuple[Turn, ...]
    media: tuple[Any, ...]

    @property
    def question(self) -> str:
        """All text of the last user turn."""
        for turn in reversed(self.turns):
            if turn.role == "user":
                return "\n".join(part for part in turn.parts if isinstance(part, str))
        return ""

    def telling(self, told: Sequence[str]) -> Conversation:
        """The same, with what is told of each medium before the words that follow it."""
        if not any(told):
            return self
        turns = [Turn(turn.role, _with_told(turn.parts, told)) for turn in self.turns]
        return Conversation(tuple(turns), self.media)


def read_messages(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Read OpenAI-style messages.

    A message has a role (system, user, assistant) and a content: text, or a list of parts
    {"type": "text", "text": ...}, {"type": "image_url", "image_url": {"url": ...}} (likewise
    video_url), or {"type": "image", "image": anything `media.load` takes} (likewise video).

    Raises `UserError` that names the message and what is wrong with it.
    """
    if not messages:
        raise UserError("there are no messages: give at least one from the user")
    media: list[Any] = []
    turns = []
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or "role" not in message:
            raise UserError(f"message {place} must be a mapping with a role and a content")
        role = message["role"]
        if role not in _ROLES:
            raise unknown(f"role in message {place}", str(role), _ROLES)
        content = message.get("content", "")
        items = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(items, Sequence):
            raise UserError(f"the content of message {place} must be text or a list of parts")
        turns.append(Turn(role, tuple(_part(item, place, media) for item in items)))
    conversation = Conversation(tuple(turns), tuple(media))
    if turns[-1].role != "user":
        raise UserError("the last message must be from the user")
    if not conversation.question.strip():
        raise UserError("the question is empty: write what you want to know")
    return conversation


def question_messages(media: Any, question: str) -> list[dict[str, Any]]:
    """One user message: the media, then the question."""
    sources = media if isinstance(media, list) else [media]
    if not sources:
        raise UserError("no media were given: name at least one picture or film")
    parts: list[dict[str, Any]] = [{"type": "image", "image": source} for source in sources]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def _with_told(parts: Sequence[str | int], told: Sequence[str]) -> tuple[str | int, ...]:
    found: list[str | int] = []
    before: list[str] = []
    for part in parts:
        if isinstance(part, str):
            found.append("\n".join([*before, part]))
            before = []
        else:
            found.append(part)
            before += filter(None, [told[part]])
    return (*found, *(["\n".join(before)] if before else []))


def _part(item: Any, place: int, media: list[Any]) -> str | int:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind == "text":
        if not isinstance(item.get("text"), str):
            raise UserError(f"a text part of message {place} has no text")
        return item["text"]
    if kind not in _MEDIA:
        raise unknown(f"part type in message {place}", str(kind), ("text", *_MEDIA))
    source = item.get(kind)
    if kind.endswith("_url") and isinstance(source, Mapping):
        source = source.get("url")
    if source is None:
        raise UserError(f"a {kind} part of message {place} has no {kind}")
    media.append(source)
    return len(media) - 1
