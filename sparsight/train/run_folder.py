"""The folder of a run: whether a run may begin there, or go on, and from where."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from sparsight.core.errors import UserError
from sparsight.train import checkpoints
from sparsight.train.checkpoints import Checkpoint
from sparsight.train.logs import Log
from sparsight.train.recipe import Recipe
from sparsight.train.settings import differences, fingerprint


@dataclass(frozen=True)
class Start:
    """Where a run begins: behind a checkpoint, at the very beginning, or not at all."""

    checkpoint: Checkpoint | None = None
    through: bool = False


def open_run(recipe: Recipe, out: Path, resume: bool) -> Start:
    """See how far a run in a folder has come; nothing is written yet.

    Raises `UserError` for a folder that is taken, and for a recipe other than the one that the
    run was begun with, with the differences. Where nothing was saved, a run begins anew.
    """
    names = [stage.name for stage in recipe.stages]
    saved = checkpoints.any_in(out / "checkpoints") or (out / "model").exists()
    if is_main():  # the first process looks at the folder for all
        if saved and not resume:
            raise UserError(f"{out} holds a run already: add --resume, or choose another folder")
        if saved:
            _refuse_changes(recipe, out)
        elif out.is_file():
            raise UserError(f"{out} is a file: choose a folder")
        elif out.exists() and any(out.iterdir()) and not (out / "run.json").exists():
            raise UserError(f"{out} is not empty and holds no run: choose another folder")
    if (out / "model").exists():
        return Start(through=True)
    return Start(checkpoints.last(out / "checkpoints", names))


def begin_run(recipe: Recipe, out: Path) -> None:
    """Make the folder of a run and write down the recipe."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    content = {"recipe": fingerprint(recipe), "versions": versions}
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = out / ".run.json.part"
        part.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(part, out / "run.json")
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {error.strerror}") from None


def _refuse_changes(recipe: Recipe, out: Path) -> None:
    found = differences(_begun_with(out / "run.json"), json.loads(json.dumps(fingerprint(recipe))))
    if found:
        raise UserError(
            f"the recipe has changed since {out} was begun ({'; '.join(found)}): undo that, "
            "or choose another folder"
        )


def _begun_with(note: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads(note.read_text())["recipe"])
    except (ValueError, KeyError, TypeError, OSError):
        raise UserError(f"{note} cannot be read: choose another folder") from None


def rewind(log: Log, names: Sequence[str], checkpoint: Checkpoint | None) -> None:
    """Leave the lines of the log up to a checkpoint: what follows is trained again."""

    def stays(line: Mapping[str, Any]) -> bool:
        if checkpoint is None:
            return False
        here, there = names.index(line["stage"]), names.index(checkpoint.stage)
        return here < there or (here == there and line["step"] <= checkpoint.step)

    log.rewind(stays)


def is_main() -> bool:
    """Whether this process is the first, also before accelerate is up."""
    return int(os.environ.get("RANK", "0")) == 0
