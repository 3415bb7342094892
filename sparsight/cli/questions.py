"""The questions that a command is told to ask: tasks of the world, or the user's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sparsight.cli.terminal import notes
from sparsight.core.errors import UserError

if TYPE_CHECKING:
    from sparsight.bench.item import Item

_TOLD = 5  # skipped lines that are printed


def questions(
    tasks: str, data: Path | None, count: int | None, each: int, frames: str | None, seed: int
) -> list[Item]:
    """The items; lines of a file that cannot be used are named.

    Args:
        tasks, data: what to ask; one of them.
        count: questions of each task, or of the file; without it `each` of a task, all of a file.
        frames: the frame selection of films, in place of the items' own.
    """
    from sparsight.media import parse_selection

    if bool(tasks) == (data is not None):
        raise UserError("say what to ask: either --tasks color,move or --data my.jsonl")
    if frames is not None:
        parse_selection(frames)
    if data is not None:
        items = _own(data, count)
    else:
        from sparsight.world.items import exam_items

        items = [item for task in names(tasks) for item in exam_items(task, count or each, seed)]
    return [replace(item, frames=frames or item.frames) for item in items]


def names(text: str) -> list[str]:
    """ "color, move" -> ["color", "move"], each once."""
    return list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def _own(path: Path, count: int | None) -> list[Item]:
    from sparsight.bench.data import read_items
    from sparsight.world.tasks.scoring import SCORERS

    items, skipped = read_items(path, count, scorers=SCORERS)
    for item in skipped[:_TOLD]:
        notes().print(f"{path.name}, {item}", markup=False, soft_wrap=True)
    if skipped:
        more = f" ({len(skipped) - _TOLD} more)" if len(skipped) > _TOLD else ""
        told = f"{len(skipped)} of {len(skipped) + len(items)} lines cannot be used{more}"
        notes().print(told, markup=False)
    return items
