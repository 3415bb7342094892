"""What is asked of the world: which scenes, how they are shown, which questions about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsight.core.errors import UserError, unknown
from sparsight.world.exam import DEFAULT_FRAMES, FRAMES, exam
from sparsight.world.library import Library
from sparsight.world.sampler import sample_scene
from sparsight.world.scene import Scene
from sparsight.world.splits import SPLITS, split_index
from sparsight.world.tasks import FORMS, TASKS, Form, Question, conversation, questions

RANGES: dict[str, tuple[float, float]] = {
    "count": (1, 1_000_000),
    "frames": (1, 10_000),
    "side": (64, 1344),
    "aspect": (1 / 4, 4),
    "fps": (0.01, 240),
    "seed": (0, 99_999),
    "turns": (1, 8),
}
_SCENES = 10_000_000  # that belong to one seed
_PATIENCE = 200  # scenes in a row that carry no question, before it is given up


def check_ranges(request: object, names: Iterable[str]) -> None:
    """Raise `UserError` for a value of these `names` that is not in its range."""
    for name in names:
        value, (low, high) = getattr(request, name), RANGES[name]
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise UserError(f"{name} must be from {low:,} to {high:,}, not {value}")


@dataclass(frozen=True)
class Asked:
    """One scene and the questions about it, by task; those of a conversation in their order."""

    scene: Scene
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Request:
    """Scenes with questions about them.

    `task` is one of TASKS, or None for all that a scene can carry. `frames` 1 is a picture, more
    a film, None as many as suits the task. `side` is the shorter side in pixels, `aspect` width
    over height. With more than one of `turns`, the questions of a scene are one conversation of
    at most so many turns, whose later ones refer back; they may be of any task. `sprites` is a
    folder as `Library` takes it.

    Raises `UserError` for what is unknown or out of range.
    """

    split: str = "train"
    task: str | None = None
    count: int = 1
    frames: int | None = None
    side: int = 224
    aspect: float = 1.0
    fps: float = 2.0
    seed: int = 0
    form: Form = "open"
    turns: int = 1
    sprites: Path | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        if self.task is not None and self.task not in TASKS:
            raise unknown("task", self.task, TASKS)
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)
        check_ranges(self, RANGES)
        if self.turns > 1 and self.form != "open":
            raise UserError("the questions of a conversation are open: take one turn for choices")

    @property
    def length(self) -> int:
        """Frames of a scene."""
        if self.frames is not None:
            return self.frames
        return FRAMES.get(self.task or "", DEFAULT_FRAMES)

    @property
    def shape(self) -> float:
        """The aspect of the scenes: `aspect` to the nearest even number of pixels.

        H.264 takes even numbers alone, and the boxes fit a picture of whole pixels exactly.
        """
        longer = max(self.aspect, 1 / self.aspect) * self.side
        ratio = min(2 * round(longer / 2), 4 * self.side) / self.side
        return ratio if self.aspect >= 1 else 1 / ratio

    def asked(self, library: Library) -> Iterator[Asked]:
        """The scenes in their order, each with its questions. The same request, the same scenes;
        with a higher count, the same and then more.

        Raises `UserError` where hardly any scene of this kind can carry a question.
        """
        if self.task is not None and self.turns == 1:
            items = exam(
                self.task, self.split, self.count, frames=self.frames, fps=self.fps,
                aspect=self.shape, seed=self.seed, form=self.form, library=library,
            )  # fmt: skip
            yield from (Asked(item.scene, (item.question,)) for item in items)
            return
        found = barren = 0
        for place in range(_SCENES):
            item = self._asked_at(self.seed * _SCENES + place, library)
            if item.questions:
                found, barren = found + 1, 0
                yield item
            else:
                barren += 1
            if found == self.count:
                return
            if barren == _PATIENCE:
                raise UserError(f"scenes of {self.length} frames carry no questions; take more")

    def _asked_at(self, seed: int, library: Library) -> Asked:
        """One scene with as many questions as it carries."""
        scene = sample_scene(
            seed, self.split, self.task, frames=self.length, fps=self.fps, aspect=self.shape,
            library=library,
        )  # fmt: skip
        rng = np.random.default_rng([split_index(self.split), seed])
        if self.turns > 1:
            return Asked(scene, tuple(conversation(scene, rng, self.turns)))
        found = questions(scene, rng, choice=float(self.form == "choice"))
        return Asked(scene, tuple(sorted(found, key=lambda one: TASKS.index(one.task))))
