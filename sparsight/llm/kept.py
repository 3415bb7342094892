"""Texts that were dear to make, kept by a key: in memory, or in a file that stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from sparsight.core.errors import UserError

_MOST = 100_000  # in memory; the oldest go first


class KeptTexts(MutableMapping[str, str]):
    """Texts by key.

    With a path, every text is appended to that file of JSON lines as it comes, and those that the
    file holds are there from the start. A line that an interruption cut short is passed over.
    Raises `UserError` for a file that cannot be read or written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._texts: dict[str, str] = {}
        self._path = None if path is None else Path(path).expanduser()
        if self._path is not None:
            self._read(self._path)

    def _read(self, path: Path) -> None:
        try:
            if path.exists():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            else:
                lines = []
            with path.open("a", encoding="utf-8"):
                pass  # whether it can be written to shows now, not after the first text was made
        except OSError as error:
            raise _unusable(path, error) from None
        for line in lines:
            try:
                known = json.loads(line)
                self._texts[str(known["key"])] = str(known["text"])
            except (ValueError, KeyError, TypeError):
                continue

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def __setitem__(self, key: str, text: str) -> None:
        self._texts[key] = text
        if self._path is None:
            while len(self._texts) > _MOST:
                del self._texts[next(iter(self._texts))]
            return
        # The line break comes first, so that a line which was cut short does not swallow this one.
        line = "\n" + json.dumps({"key": key, "text": text}, ensure_ascii=False)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise _unusable(self._path, error) from None

    def __delitem__(self, key: str) -> None:
        raise TypeError("what was kept stays")

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _unusable(path: Path, error: OSError) -> UserError:
    why = (error.strerror or "it cannot be opened").lower()
    return UserError(f"{path}: texts cannot be kept there ({why}): name another file")
