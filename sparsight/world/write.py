"""Scenes to files that other tools read: MP4, PNG, WAV, and conversations as LLaVA trains on them.

    out/world.json             what was asked for
    out/conversations.jsonl    one record a line, written when all the media are there
    out/media/000000.mp4       or .png; .wav with sound; .masks.mkv or .masks.png with masks

A run that was stopped goes on where it was: a medium that has its final name is whole. The files
of the same request are the same, byte for byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.world.encode import RATE, film, mask_film, sound_file, sweep, whole
from sparsight.world.folder import RECORDS, Made, judged, prepared, relative, said
from sparsight.world.library import Library
from sparsight.world.paint import Painted, paint, paint_film
from sparsight.world.request import Asked, Request
from sparsight.world.scene import Scene, pixel_size
from sparsight.world.sound import track
from sparsight.world.tasks import Question
from sparsight.world.truth import truth


def make(
    request: Request,
    out: Path,
    *,
    sound: bool = False,
    masks: bool = False,
    on_frames: Callable[[int], None] = lambda count: None,
) -> Made:
    """Write the scenes of a request to the folder `out`; constant memory, however long they are.

    Args:
        sound: write sound tracks too, into the films and as WAV.
        masks: write for each frame which thing each pixel shows: 0 background, k + 1 thing k.
        on_frames: told of each number of frames that has been written, or found there.

    Raises `UserError` for a folder that cannot be written to or holds something else, `OSError`
    naming the file where the disk is full. Either leaves whole files alone behind.
    """
    if request.length > 1 and request.side % 2:
        raise UserError(f"side must be even for films, not {request.side}")
    library = Library(request.sprites)
    began = time.time()
    sprites = None if request.sprites is None else str(request.sprites)
    asked = {**dataclasses.asdict(request), "sprites": sprites, "sound": sound, "masks": masks}
    media = prepared(out, asked)
    wrote = found = records = 0
    with whole(out / RECORDS) as part, part.open("w", encoding="utf-8") as lines:
        for place, item in enumerate(request.asked(library)):
            files = Files.of(item.scene, media, place, sound, masks)
            if files.complete:
                found += 1
                on_frames(item.scene.frames)
            else:
                _write_media(item.scene, request.side, files, library, on_frames)
            wrote += 1
            for record in records_of(item, place, files, request):
                lines.write(json.dumps(record, allow_nan=False) + "\n")
                records += 1
    sweep(media, began)
    sweep(out, began)
    return Made(wrote, found, records)


@dataclass(frozen=True)
class Files:
    """Where the medium of one scene goes, and what goes with it."""

    medium: Path
    masks: Path | None
    wave: Path | None

    @staticmethod
    def of(scene: Scene, folder: Path, place: int, sound: bool, masks: bool) -> Files:
        name = f"{place:06d}"
        return Files(
            folder / (f"{name}.mp4" if scene.is_film else f"{name}.png"),
            folder / (f"{name}.masks.mkv" if scene.is_film else f"{name}.masks.png")
            if masks
            else None,
            folder / f"{name}.wav" if sound and scene.is_film and scene.sounds else None,
        )

    @property
    def complete(self) -> bool:
        """Whether all are there."""
        return all(path is None or path.exists() for path in (self.medium, self.masks, self.wave))


# ---- media -------------------------------------------------------------------------------------


def _write_media(
    scene: Scene, side: int, files: Files, library: Library, on_frames: Callable[[int], None]
) -> None:
    """Paint a scene and write all its files; the medium itself last."""
    if not scene.is_film:
        painted = paint(scene, scene.times, side, library=library)
        if files.masks is not None:
            _write_picture(files.masks, np.asarray(painted.owners)[0])
        _write_picture(files.medium, np.asarray(painted.frames)[0])
        on_frames(1)
        return
    size = pixel_size(scene, side)
    sounds = files.wave is not None
    with contextlib.ExitStack() as open_files:

        def growing(path: Path, kind: Callable[..., Any], *how: Any) -> Any:
            return open_files.enter_context(kind(open_files.enter_context(whole(path)), *how))

        add = growing(files.medium, film, size, scene.fps, sounds)
        add_sound = files.wave and growing(files.wave, sound_file)
        add_masks = files.masks and growing(files.masks, mask_film, size, scene.fps)
        for start, painted in _chunks(scene, side, library):
            count = len(painted.frames)
            samples = None
            if add_sound:
                until = min(scene.duration, (start + count) / scene.fps)
                samples = track(scene, RATE, library, start=start / scene.fps, end=until)
                add_sound(samples)
            if add_masks:
                add_masks(np.asarray(painted.owners))
            add(np.asarray(painted.frames), samples)
            on_frames(count)


def _chunks(scene: Scene, side: int, library: Library) -> Iterator[tuple[int, Painted]]:
    """The film in pieces, each with the number of its first frame."""
    start = 0
    for painted in paint_film(scene, side, library=library):
        yield start, painted
        start += len(painted.frames)


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    with whole(path) as part:
        Image.fromarray(pixels).save(part, "PNG")


# ---- records -----------------------------------------------------------------------------------


def records_of(item: Asked, place: int, files: Files, request: Request) -> Iterator[dict[str, Any]]:
    """A record a question; one of the whole conversation where there are several turns.

    `id`, `image` or `video`, and `conversations` are what LLaVA's training code reads: paths are
    relative to the folder, "<image>" stands for a film as well. The other keys are ours.
    """
    name = f"{request.split}-{request.task or 'mixed'}-{place:06d}"
    known = {"truth": truth(item.scene)}
    if request.turns > 1:
        turns = [judged(question) for question in item.questions]
        yield _conversation(name, item, item.questions, files) | {"turns": turns} | known
        return
    for number, question in enumerate(item.questions):
        called = name if request.task else f"{name}-{number}"
        yield _conversation(called, item, [question], files) | judged(question) | known


def _conversation(
    name: str, item: Asked, asked: Sequence[Question], files: Files
) -> dict[str, Any]:
    record = {
        "id": name,
        "video" if item.scene.is_film else "image": relative(files.medium),
        "conversations": said(asked),
    }
    for key, path in (("audio", files.wave), ("masks", files.masks)):
        if path is not None:
            record[key] = relative(path)
    return record
