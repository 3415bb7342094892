"""Rooms to files that other tools read: a PNG a view, and conversations as LLaVA trains on them.

    out/world.json               what was asked for
    out/conversations.jsonl      one record a question, written when all the views are there
    out/media/000000-1.png       what camera 1 of the first room sees; -1.depth.png with depth

A run that was stopped goes on where it was. The files of the same request are the same.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparsight.core.errors import UserError, unknown
from sparsight.world.encode import sweep, whole
from sparsight.world.folder import RECORDS, Made, judged, prepared, relative, said
from sparsight.world.request import check_ranges
from sparsight.world.space.paint import Views, paint_room
from sparsight.world.space.questions import ROOM_TASKS, room_questions
from sparsight.world.space.room import Room
from sparsight.world.space.sample import MOST_VIEWS, sample_room
from sparsight.world.splits import SPLITS, split_index
from sparsight.world.tasks.question import FORMS, Form, Question

_ROOMS = 10_000_000  # that belong to one seed
_PATIENCE = 200  # rooms in a row that carry no question, before it is given up
_STEPS = 1000  # of a metre, that a depth picture counts


@dataclass(frozen=True)
class RoomRequest:
    """Rooms with questions about them.

    `task` is one of ROOM_TASKS, or None for all that a room can carry. `views` is how many cameras
    there are, None for two to eight. `side` is the shorter side of a view in pixels, `aspect` its
    width over its height. Raises `UserError` for what is unknown or out of range.
    """

    split: str = "train"
    task: str | None = None
    count: int = 1
    views: int | None = None
    side: int = 224
    aspect: float = 1.0
    seed: int = 0
    form: Form = "open"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown("split", self.split, SPLITS)
        if self.task is not None and self.task not in ROOM_TASKS:
            raise unknown("task of rooms", self.task, ROOM_TASKS)
        if self.form not in FORMS:
            raise unknown("form", self.form, FORMS)
        if self.views is not None and not 2 <= self.views <= MOST_VIEWS:
            raise UserError(f"views must be from 2 to {MOST_VIEWS}, not {self.views}")
        check_ranges(self, ("count", "side", "aspect", "seed"))

    def asked(self) -> Iterator[tuple[Room, list[Question]]]:
        """The rooms in their order, each with its questions. The same request, the same rooms;
        with a higher count, the same and then more."""
        found = barren = 0
        for seed in range(self.seed * _ROOMS, (self.seed + 1) * _ROOMS):
            room = sample_room(seed, self.split, views=self.views, aspect=self.aspect)
            rng = np.random.default_rng([split_index(self.split), seed])
            tasks = None if self.task is None else [self.task]
            questions = room_questions(room, rng, tasks, self.form)
            if questions:
                found, barren = found + 1, 0
                yield room, sorted(questions, key=lambda one: ROOM_TASKS.index(one.task))
            else:
                barren += 1
            if found == self.count:
                return
            if barren == _PATIENCE:
                raise UserError(f"rooms carry no questions of task {self.task!r} in this split")


def make_rooms(
    request: RoomRequest,
    out: Path,
    *,
    depth: bool = False,
    on_room: Callable[[], None] = lambda: None,
) -> Made:
    """Write the rooms of a request to the folder `out`.

    Args:
        depth: write for each view the depth of its pixels as well, 16 bits in millimetres along
            the axis of the camera.
        on_room: called for each room that has been written, or found there.

    Raises as `sparsight.world.write.make` does.
    """
    began = time.time()
    media = prepared(out, {"rooms": True, **dataclasses.asdict(request), "depth": depth})
    rooms = found = records = 0
    with whole(out / RECORDS) as part, part.open("w", encoding="utf-8") as lines:
        for place, (room, questions) in enumerate(request.asked()):
            views = [media / f"{place:06d}-{number + 1}.png" for number in range(len(room.eyes))]
            depths = [view.with_suffix(".depth.png") for view in views] if depth else []
            if all(path.exists() for path in (*views, *depths)):
                found += 1
            else:
                _write_views(paint_room(room, request.side), views, depths)
            on_room()
            rooms += 1
            truth = _truth(room, request.side)
            for question in questions:
                record = {
                    "id": f"{request.split}-room-{place:06d}-{question.task}",
                    "images": [relative(path) for path in views],
                    "conversations": said([question], len(views)),
                    **({"depth": [relative(path) for path in depths]} if depth else {}),
                    **judged(question),
                    "truth": truth,
                }
                lines.write(json.dumps(record, allow_nan=False) + "\n")
                records += 1
    sweep(media, began)
    sweep(out, began)
    return Made(rooms, found, records)


def _write_views(painted: Views, views: list[Path], depths: list[Path]) -> None:
    for path, frame in zip(views, painted.frames.numpy(), strict=True):
        with whole(path) as part:
            Image.fromarray(frame).save(part, "PNG")
    for path, metres in zip(depths, painted.depth.numpy(), strict=False):
        with whole(path) as part:
            Image.fromarray((metres * _STEPS).round().astype(np.uint16)).save(part, "PNG")


def _truth(room: Room, side: int) -> dict[str, Any]:
    """Cameras, and things with their boxes, as `Room` explains them."""
    return {
        "size": list(room.size),
        "intrinsics": room.intrinsics(side).tolist(),
        "extrinsics": room.extrinsics().tolist(),
        "things": [
            {"shape": solid.shape, "color": solid.color, "box": box}
            for solid, box in zip(room.solids, room.boxes().tolist(), strict=True)
        ],
    }
