"""Checkpoints that are whole or not there: written beside, synced, renamed.

A checkpoint is a folder `STAGE-STEP`. What is being written or removed has a name that begins
with a dot, so a reader never takes it for one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAME = re.compile(r"([\w-]+)-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint: its folder, the stage and the step after which it was written."""

    folder: Path
    stage: str
    step: int

    def read(self) -> dict[str, Any]:
        """What `write_note` put beside the weights."""
        return json.loads((self.folder / "stage.json").read_text())


def last(folder: Path, stages: Sequence[str]) -> Checkpoint | None:
    """The newest checkpoint: of the latest stage, the latest step."""
    found = [item for item in _all(folder) if item.stage in stages]
    return max(found, key=lambda item: (stages.index(item.stage), item.step), default=None)


def any_in(folder: Path) -> bool:
    """Whether a folder holds a finished checkpoint of any stage."""
    return bool(_all(folder))


def _all(folder: Path) -> list[Checkpoint]:
    if not folder.is_dir():
        return []
    names = [(path, _NAME.fullmatch(path.name)) for path in folder.iterdir()]
    return [Checkpoint(path, name[1], int(name[2])) for path, name in names if name]


def named(folder: Path, stage: str, step: int) -> Path:
    """Where the checkpoint of a stage and step goes."""
    return folder / f"{stage}-{step:08d}"


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A folder to write into; at the end it is synced to disk and becomes `target`.

    What stood there goes only then. On any error the new folder is removed and the old stays.
    """
    part = target.with_name(f".{target.name}.part")
    remove(part)
    part.mkdir(parents=True)
    try:
        yield part
        sync(part)
        put(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def put(part: Path, target: Path) -> None:
    """Rename a finished folder to `target`, in place of what is there."""
    old = target.with_name(f".{target.name}.old")
    remove(old)
    if target.exists():
        os.rename(target, old)
    os.rename(part, target)
    _sync_path(target.parent)
    remove(old)


def sync(folder: Path) -> None:
    """Wait until all files below `folder` are on the disk; safetensors made its own private."""
    umask = os.umask(0)
    os.umask(umask)
    for path in [*folder.rglob("*"), folder]:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        _sync_path(path)


def prune(folder: Path, keep: Path) -> None:
    """Remove every other checkpoint, and what a killed process has left half-written."""
    for path in folder.iterdir():
        if path != keep and (_NAME.fullmatch(path.name) or path.name.startswith(".")):
            remove(path)


def remove(path: Path) -> None:
    """Remove a folder; it has lost its name before its first file goes."""
    if not path.exists():
        return
    if not path.name.startswith("."):
        hidden = path.with_name(f".{path.name}.old")
        shutil.rmtree(hidden, ignore_errors=True)
        path = path.rename(hidden)
    shutil.rmtree(path)


def write_note(folder: Path, content: Mapping[str, Any]) -> None:
    """What belongs to a checkpoint beside the weights and the optimiser."""
    (folder / "stage.json").write_text(json.dumps(content) + "\n")


def _sync_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
