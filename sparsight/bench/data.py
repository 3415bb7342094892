"""The user's own questions, from a file of one JSON object a line.

```json
{"image": "cat.jpg", "question": "What is on the mat?", "answer": ["cat", "a tabby cat"]}
{"video": "door.mp4", "question": "Who enters?", "answer": "B", "choices": ["a man", "a dog"]}
{"id": "7", "image": "cat.jpg", "conversations": [
  {"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]}
```

The last form, here on two lines, is LLaVA's training data and what `sparsight world make` writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsight.bench.item import Item
from sparsight.bench.scorers import LABELS, Scorer, named_scorer, normalized, scorer_for
from sparsight.core.errors import UserError
from sparsight.media.sampling import parse_selection

_MEDIA = ("image", "images", "video", "videos")
_MARK = re.compile(r"\s*<(?:image|video)>\s*")
_HALF = 0.5  # of records that name a scorer of the world, as in its own exams


@dataclass(frozen=True)
class Skipped:
    """A line that no item was made of, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def read_items(
    path: str | Path,
    limit: int | None = None,
    *,
    scorers: Mapping[str, Scorer] | None = None,
) -> tuple[list[Item], list[Skipped]]:
    """Read questions; what cannot be used is named.

    A line holds `image`, `images` or `video` (a path relative to the file, a URL, or a list), and
    either `question` and `answer` (text, a number, or a list of accepted ones) with `choices` if
    there are any, or `conversations`, of which the first question and its answer are taken.
    `id`, `task` and `frames` (a selection such as "uniform:8") may be given.

    Options that the question does not name are written behind it with letters. Scored are the
    letter or text of an option, a number, or the text but for case, articles and punctuation; a
    record that names its `scorer` is scored by that one of `scorers` and is right from one half.

    Args:
        path: a .jsonl file, or a .json file that holds a list of such objects.
        limit: at most so many items; what is behind them is not looked at.
        scorers: name -> scorer, for records that name theirs.

    Raises `UserError` for a file that cannot be read or holds nothing that can be used.
    """
    path = Path(path)
    items: list[Item] = []
    skipped: list[Skipped] = []
    taken: dict[str, int] = {}
    for line, record in _records(path):
        if limit is not None and len(items) == limit:
            break
        try:
            if isinstance(record, UserError):
                raise record
            items.append(_item(record, line, path, taken, scorers))
        except UserError as error:
            skipped.append(Skipped(line, str(error)))
    if not items:
        why = f" ({skipped[0]})" if skipped else ""
        count = f"none of its {len(skipped)} lines can be used" if skipped else "it is empty"
        raise UserError(f"{path}: {count}{why}")
    return items, skipped


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of every line; an error in place of what is not JSON."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix == ".json":
        try:
            whole = json.loads(content)
        except ValueError:
            raise UserError(f"{path} is not valid JSON; one object a line goes in .jsonl") from None
        if not isinstance(whole, list):
            raise UserError(f"{path} must hold a list of objects")
        yield from enumerate(whole, 1)
        return
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError:
            yield number, UserError("it is not valid JSON")


def _item(
    record: Any,
    line: int,
    path: Path,
    taken: dict[str, int],
    scorers: Mapping[str, Scorer] | None,
) -> Item:
    if not isinstance(record, Mapping):
        raise UserError("it is not an object")
    media = _media(record, path.parent)
    question, accepted = _asked(record)
    choices = _texts(record, "choices")
    frames = record.get("frames")
    if frames is not None:
        parse_selection(str(frames))
    passes = 1.0
    turns = record.get("turns")
    judged = turns[0] if isinstance(turns, list) and turns else record
    if isinstance(judged, Mapping) and isinstance(judged.get("scorer"), str):
        choices, passes = _texts(judged, "choices"), _HALF
        slack = judged.get("slack")
        slack = float(slack) if isinstance(slack, int | float) else 0.0
        score = named_scorer(judged["scorer"], accepted[0], choices, slack, scorers)
        task = judged.get("task")
    else:
        if len(choices) > len(LABELS):
            raise UserError(f"{len(choices)} choices are more than there are letters")
        score = scorer_for(accepted, choices)
        question = with_choices(question, choices)
        task = record.get("task")
    name = str(record.get("id", f"line-{line}"))
    taken[name] = taken.get(name, 0) + 1
    return Item(
        id=name if taken[name] == 1 else f"{name}#{taken[name]}",
        task=str(task or path.stem),
        media=tuple(media),
        question=question,
        answer=accepted[0],
        score=score,
        passes=passes,
        frames=None if frames is None else str(frames),
    )


def with_choices(question: str, choices: list[str]) -> str:
    """The question with its options behind it, each with its letter, unless it names them all."""
    said = f" {normalized(question)} "
    if all(f" {normalized(option)} " in said for option in choices):
        return question
    listed = "\n".join(f"{LABELS[i]}. {option}" for i, option in enumerate(choices))
    return f"{question}\n{listed}\nAnswer with the letter alone."


def _media(record: Mapping[str, Any], folder: Path) -> list[str]:
    found = []
    for name in _MEDIA:
        value = record.get(name)
        for source in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(source, str) or not source.strip():
                raise UserError(f"{name} must be a path or a list of paths, not {source!r}")
            if "://" in source:
                found.append(source)
                continue
            if not (folder / source).exists():
                raise UserError(f"{source}: there is no such file")
            found.append(str(folder / source))
    if not found:
        raise UserError("it has no image and no video")
    return found


def _asked(record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The question and the answers that are right."""
    if "conversations" in record:
        return _first_turns(record["conversations"])
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UserError("it has no question")
    answer = record.get("answer")
    answers = answer if isinstance(answer, list) else [answer]
    accepted = [str(item).strip() for item in answers if isinstance(item, str | int | float)]
    accepted = [item for item in accepted if item]
    if not accepted:
        raise UserError("it has no answer")
    return question.strip(), accepted


def _first_turns(turns: Any) -> tuple[str, list[str]]:
    """The first question of a conversation and what is answered to it."""
    said = [
        (str(turn.get("from")), turn["value"])
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, Mapping) and isinstance(turn.get("value"), str)
    ]
    asked = next((i for i, (who, _) in enumerate(said) if who in ("human", "user")), None)
    question = "" if asked is None else _MARK.sub(" ", said[asked][1]).strip()
    if asked is None or not question:
        raise UserError("its conversation has no question")
    answer = said[asked + 1] if asked + 1 < len(said) else ("", "")
    if answer[0] not in ("gpt", "assistant") or not answer[1].strip():
        raise UserError("its conversation has no answer")
    return question, [answer[1].strip()]


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    value = record.get(name) or []
    if not (isinstance(value, list) and all(isinstance(x, str | int | float) for x in value)):
        raise UserError(f"{name} must be a list of texts")
    return [str(item) for item in value]
