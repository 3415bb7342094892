"""The time a search may take, counted over all the runs that it took."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path


class Clock:
    """Seconds of work on one search, kept in a file.

    Args:
        file: where they are kept.
        most: seconds that the search may take in all; None: as many as it needs.
        now: the time in seconds, rising.
    """

    def __init__(
        self, file: Path, most: float | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._file, self._now = file, now
        self.most = most
        self.reserve = 0.0  # seconds to leave for what comes after the search
        self._before = 0.0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._before = float(json.loads(file.read_text())["seconds"])
        self._start = now()

    @property
    def spent(self) -> float:
        """Seconds so far, those of earlier runs included."""
        return self._before + self._now() - self._start

    @property
    def is_up(self) -> bool:
        """Whether the search has to end."""
        return self.most is not None and self.spent > self.most - self.reserve

    def save(self) -> None:
        """Note what was spent."""
        part = self._file.with_name(f".{self._file.name}.part")
        part.write_text(json.dumps({"seconds": round(self.spent, 3)}))
        part.replace(self._file)
