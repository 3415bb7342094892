"""A folder that the world was written to: what it is called there, and what a record says.

    out/world.json             what was asked for
    out/conversations.jsonl    one record a line
    out/media/                 pictures, films, sounds

Two requests never share a folder; more of the same request is welcome.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sparsight
from sparsight.core.errors import UserError
from sparsight.world.encode import whole
from sparsight.world.tasks.question import Question

REQUEST, RECORDS, MEDIA = "world.json", "conversations.jsonl", "media"


@dataclass(frozen=True)
class Made:
    """What a folder holds now: `media` files of which `found` were there before, `records`."""

    media: int
    found: int
    records: int


def prepared(out: Path, asked: Mapping[str, Any]) -> Path:
    """Make the folder for what is `asked`, or check that it holds the same; gives the folder of
    the media.

    Raises `UserError` for a folder that cannot be written to or holds something else.
    """
    asked = {"sparsight": sparsight.__version__, **asked}
    told = out / REQUEST
    try:
        (out / MEDIA).mkdir(parents=True, exist_ok=True)
        if told.exists():
            _check_same(told, asked)
        else:
            _check_empty(out)
        with whole(told) as part:
            part.write_text(json.dumps(asked, indent=2) + "\n")
    except (PermissionError, NotADirectoryError, FileExistsError, FileNotFoundError) as error:
        why = (error.strerror or "").lower()
        raise UserError(f"{out}: no files can be written there ({why}); give another") from None
    return out / MEDIA


def _check_empty(out: Path) -> None:
    if (out / RECORDS).exists() or any((out / MEDIA).iterdir()):
        raise UserError(f"{out}: the folder holds files of something else; give a new one")


def _check_same(told: Path, asked: Mapping[str, Any]) -> None:
    """Refuse to mix two requests in one folder: which file is whose could not be told. More
    scenes of the same request are welcome."""
    try:
        before = json.loads(told.read_text())
        differ = [name for name in asked if before[name] != asked[name]]
        differ = [name for name in differ if name != "count" or before[name] > asked[name]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{told} cannot be read; give a new folder") from None
    if differ:
        name = differ[0]
        raise UserError(
            f"{told.parent}: the folder holds scenes made with {name}={before[name]}, "
            f"not {asked[name]}; give a new one"
        )


def said(asked: Sequence[Question], media: int = 1) -> list[dict[str, str]]:
    """A conversation as LLaVA's training code reads it: "<image>" stands for a medium, a film as
    well."""
    turns = []
    for question in asked:
        turns += [
            {"from": "human", "value": question.text},
            {"from": "gpt", "value": question.answer},
        ]
    turns[0]["value"] = "<image>\n" * media + turns[0]["value"]
    return turns


def judged(question: Question) -> dict[str, Any]:
    """What it takes to judge an answer, and what the question is about."""
    return {
        "task": question.task,
        "form": question.form,
        "scorer": question.scorer,
        "choices": list(question.choices),
        "size": question.size,
        "slack": question.slack,
        "about": list(question.about),
    }


def relative(path: Path) -> str:
    """A medium's path as the records have it."""
    return f"{MEDIA}/{path.name}"
