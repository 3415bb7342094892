"""Records on disk, written as they come: what was asked once is not asked again.

A folder holds one file a run, `<key>.jsonl`: a line that says what the run is, then one record a
line. Every line is on the disk before the next question is asked, so a run that is killed loses
at most the item at hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from sparsight.bench.record import Record
from sparsight.core.errors import UserError

_LOCK = ".lock"


@dataclass(frozen=True)
class Run:
    """What is the same for all records of one file: another value of any of these, another run.

    settings   batch, dtype, device, weights and all else that answers or costs depend on
    """

    model: str
    plan: str
    data: str
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        told = [self.model, self.plan, self.data, sorted(self.settings.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]


class Store:
    """The records of any number of runs, in a folder that one process writes to at a time.

    Raises `UserError` for a folder that cannot be written to, that another process writes to, or
    that holds a broken file; `OSError` naming the file where the disk is full.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._known: dict[str, dict[str, tuple[str, Record]]] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock: TextIOWrapper | None = (self.folder / _LOCK).open("w")
        except OSError as error:
            why = (error.strerror or "").lower()
            raise UserError(f"{self.folder} cannot be written to ({why}): give another") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserError(
                f"{self.folder}: another run writes there; wait for it, or give another folder"
            ) from None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write to the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def records(self, key: str) -> dict[str, Record]:
        """Item id -> its record, of a run; empty for one that was never begun."""
        return {name: record for name, (_, record) in self._of(key).items()}

    def signs(self, key: str) -> dict[str, str]:
        """Item id -> the sign of the item that its record is of."""
        return {name: sign for name, (sign, _) in self._of(key).items()}

    def begin(self, run: Run, about: Mapping[str, Any]) -> None:
        """Make the file of a run unless it is there; `about` is told in its first line."""
        if self._of(run.key) or self._path(run.key).exists():
            return
        head = {"model": run.model, "plan": run.plan, "data": run.data, **run.settings, **about}
        self._append(run.key, [head])

    def add(self, key: str, records: Iterable[tuple[str, Record]]) -> None:
        """Write records, each with its item's sign; they are on the disk when this returns."""
        found = list(records)
        self._append(key, [{"sign": sign, **record.as_dict()} for sign, record in found])
        self._of(key).update({record.item: (sign, record) for sign, record in found})

    # ---- the files -----------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"

    def _append(self, key: str, lines: Iterable[Mapping[str, Any]]) -> None:
        assert self._lock is not None, "the store is closed"
        path = self._path(key)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            with contextlib.suppress(OSError):  # no half of a line stays
                os.truncate(path, size)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise

    def _of(self, key: str) -> dict[str, tuple[str, Record]]:
        if key not in self._known:
            self._known[key] = _read(self._path(key))
        return self._known[key]


def _read(path: Path) -> dict[str, tuple[str, Record]]:
    """The records of a file; a last line that a kill or a full disk cut short is taken off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    if not whole:
        path.unlink()
        return {}
    found = {}
    for number, line in enumerate(content[:whole].splitlines()[1:], 2):
        try:
            values = json.loads(line)
            sign = values.pop("sign")
            record = Record.from_dict(values)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise UserError(f"{path}, line {number} is broken: remove the file") from None
        found[record.item] = (sign, record)
    return found
