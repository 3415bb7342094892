"""A question with everything that is needed to ask it and to score the answer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """One question about given media, with its exact scorer.

    id        unique in its data
    media     each: anything `sparsight.media.load` takes, or a callable that gives a
              `sparsight.core.clip.Clip`, called only when the item is asked
    score     reply -> 0..1
    passes    a reply is right from this score on
    frames    the frame selection of films where the plan has none; None: the model's own
    """

    id: str
    task: str
    media: tuple[Any, ...]
    question: str
    answer: str
    score: Callable[[str], float]
    passes: float = 1.0
    frames: str | None = None

    def right(self, reply: str) -> bool:
        """Whether a reply counts as right."""
        return self.score(reply) >= self.passes

    def sources(self) -> list[Any]:
        """The media, those that are made on demand made now."""
        return [medium() if callable(medium) else medium for medium in self.media]

    @property
    def sign(self) -> str:
        """Changes when something else is asked under the same id: words, frames, files.

        What is made on demand, or lies in memory, the id has to tell apart.
        """
        asked = [self.id, self.task, self.question, self.answer, self.frames]
        told = json.dumps([asked, [_sign(medium) for medium in self.media]])
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def _sign(medium: Any) -> list[Any]:
    if not isinstance(medium, (str, Path)):
        return []
    try:
        found = os.stat(medium)
    except (OSError, ValueError):  # a URL, say
        return [str(medium)]
    return [Path(medium).name, found.st_size, found.st_mtime_ns]
