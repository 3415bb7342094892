"""Conversations in the format of LLaVA's training data, read one at a time.

```json
{"id": "7", "image": "cat.jpg", "conversations": [
  {"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]}
```

`image`, `images`, `video` and `videos` hold a path or a list of paths, relative to the media
folder. `<image>` and `<video>` say where each stands; without any, all stand before the first
question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from sparsight.core.errors import UserError, unknown
from sparsight.vlm.messages import Conversation, Turn

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_FIELDS = {"image": "image", "images": "image", "video": "video", "videos": "video"}
_MARK = re.compile(r"\s*<(image|video)>\s*")


@dataclass(frozen=True)
class Dialogue:
    """One conversation with its media still to be opened; which item it is, in which epoch."""

    conversation: Conversation
    index: int = 0
    epoch: int = 0


class Conversations(Dataset):
    """The conversations of a JSON or JSONL file.

    Args:
        path: a list of records in one JSON file, or one record a line (.jsonl).
        media: the folder that the records' paths start from; None is the file's own.

    Raises `UserError` for a file that is missing, empty or not JSON; a record that cannot be
    read is one when it is asked for.
    """

    def __init__(self, path: str | Path, media: str | Path | None = None) -> None:
        self.path = Path(path)
        self.media = self.path.parent if media is None else Path(media)
        if not self.media.is_dir():
            raise UserError(f"the media folder {self.media} does not exist")
        try:
            self.records = _records(self.path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        if not len(self.records):
            raise UserError(f"{path} holds no conversation")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Dialogue:
        return self.at(index, 0)

    def at(self, index: int, epoch: int) -> Dialogue:
        """A conversation; the epoch only makes its augmentation differ."""
        try:
            return replace(read_record(self.records[index], self.media), index=index, epoch=epoch)
        except ValueError as error:
            raise UserError(f"{self.path.name}, record {index}: {error}") from None

    def length(self, index: int) -> float:
        """About how many tokens a conversation has, without opening its media."""
        try:
            record = self.records[index]
            words = sum(len(str(turn["value"])) for turn in record["conversations"]) / 4
            kinds = [_FIELDS[name] for name in _FIELDS for _ in _listed(record.get(name))]
        except (ValueError, TypeError, KeyError, AttributeError):
            return 0.0
        return words + sum({"image": 600, "video": 1500}[kind] for kind in kinds)


def read_record(record: Any, media: Path) -> Dialogue:
    """One record -> its conversation, media as paths (URLs stay).

    Raises `UserError` for a missing field, an unknown role, or placeholders that do not fit the
    media.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("conversations"), list):
        raise UserError('a record must hold a list "conversations"')
    waiting = {
        kind: [_source(item, media) for name in _FIELDS if _FIELDS[name] == kind
               for item in _listed(record.get(name))]
        for kind in ("image", "video")
    }  # fmt: skip
    given = [_turn(turn, place) for place, turn in enumerate(record["conversations"])]
    if isinstance(record.get("system"), str) and record["system"].strip():
        given.insert(0, ("system", record["system"]))
    _place_marks(given, waiting)
    sources: list[Any] = []
    turns = []
    for role, text in given:
        parts: list[str | int] = []
        for place, piece in enumerate(_MARK.split(text)):
            if place % 2 == 0:
                if piece.strip():
                    parts.append(piece.strip())
            else:
                parts.append(len(sources))
                sources.append(waiting[piece].pop(0))
        turns.append(Turn(role, tuple(parts)))
    return Dialogue(Conversation(tuple(turns), tuple(sources)))


def _place_marks(turns: list[tuple[str, str]], media: dict[str, list[Any]]) -> None:
    """Make marks and media agree, or say how they do not."""
    marks = [mark for _, text in turns for mark in _MARK.findall(text)]
    if any(_MARK.search(text) for role, text in turns if role != "user"):
        raise UserError("<image> and <video> may stand in questions only")
    if not marks and any(media.values()):
        first = next((i for i, (role, _) in enumerate(turns) if role == "user"), None)
        if first is None:
            raise UserError("there are media, but no question")
        lead = "<image>" * len(media["image"]) + "<video>" * len(media["video"])
        turns[first] = ("user", f"{lead}\n{turns[first][1]}")
        return
    if media["video"] and not media["image"] and "video" not in marks:
        # Some sets write <image> for a film; each mark is then a film.
        turns[:] = [(role, text.replace("<image>", "<video>")) for role, text in turns]
        marks = ["video"] * len(marks)
    for kind, sources in media.items():
        if marks.count(kind) != len(sources):
            raise UserError(f"{marks.count(kind)} times <{kind}> for {len(sources)} {kind}s")


def _turn(turn: Any, place: int) -> tuple[str, str]:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
        raise UserError(f'turn {place} must hold "from" and a text "value"')
    role = str(turn.get("from"))
    if role not in _ROLES:
        raise unknown(f"speaker of turn {place}:", role, _ROLES)
    return _ROLES[role], turn["value"]


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _source(item: Any, media: Path) -> str:
    if not isinstance(item, str) or not item:
        raise UserError(f"a medium must be a path, not {item!r}")
    return item if "://" in item else str(media / item)


# ---- files -----------------------------------------------------------------------------------


class _Lines(Sequence[Any]):
    """The records of a JSONL file, found by their offsets and read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets = []
        with path.open("rb") as file:
            at = 0
            for line in file:
                if line.strip():
                    self.offsets.append(at)
                at += len(line)

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: Any) -> Any:
        with self.path.open("rb") as file:
            file.seek(self.offsets[index])
            return json.loads(file.readline())


def _records(path: Path) -> Sequence[Any]:
    if path.suffix == ".jsonl":
        return _Lines(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        raise UserError(f"{path} is not valid JSON (one record a line goes in .jsonl)") from None
    if not isinstance(content, list):
        raise UserError(f"{path} must hold a list of records")
    return content
