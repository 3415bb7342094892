"""Scenes by seed: every split and task has a random stream of its own.

A task steers what a scene holds, so that one question of it has exactly one answer:

- Things asked about lie inside the picture and clear of each other, unless they come or leave.
- Events begin and end at instants of frames. Films longer than 71 frames count time in beats of
  several frames, such that about 48 frames taken evenly still show every event.
- What a question asks for (a color, a direction, a number, a time, an order) is drawn evenly and
  without regard to what the question names.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

from sparsight.core.errors import UserError, unknown
from sparsight.world import surroundings
from sparsight.world.dice import Dice
from sparsight.world.layout import place
from sparsight.world.library import Library
from sparsight.world.looks import Palette
from sparsight.world.motions import Clock, Deed, Draft
from sparsight.world.scene import Event, Narration, Scene, Sound, Thing
from sparsight.world.splits import split_index
from sparsight.world.stage import Stage
from sparsight.world.stories import STORIES, Story, any_story

LONGEST = 10_000
_MOST_THINGS = 6
_BEATS = 48
_ATTEMPTS = 12


def sample_scene(
    seed: int,
    split: str = "train",
    task: str | None = None,
    *,
    frames: int = 8,
    fps: float = 2.0,
    aspect: float = 1.0,
    library: Library | None = None,
    things: int | None = None,
) -> Scene:
    """Scene number `seed` of a split; the same arguments always give the same scene.

    task: what the scene is to be asked about, None for a mixture of everything. frames: 1 for a
    picture. aspect: width over height. library: photographs and spoken digits join in where it
    has them. things: exactly so many, by default as many as suits the task.

    Raises UserError for an unknown split or task and for numbers out of range.
    """
    index = split_index(split)
    _check(seed, split, task, frames, fps, aspect, things)
    stream = zlib.crc32((task or "").encode())
    dice = Dice((index, stream, int(seed)))
    grain = max(1, round(frames / _BEATS))
    beats = (frames - 1) // grain + 1
    story = STORIES[task] if task else any_story(dice, split, frames, things)
    for attempt in range(_ATTEMPTS):
        stage = Stage(
            dice,
            split,
            Palette(dice, split, library),
            beats,
            max(1.0, aspect),
            max(1.0, 1 / aspect),
            things,
            tight=0.93**attempt,
        )
        story.tell(stage)
        scene = _shoot(stage, seed, frames, fps, aspect, grain, library)
        if scene is not None:
            return scene
    raise UserError(
        f"{things} things of task {task!r} find no room in a picture of aspect {aspect:g}"
    )


def _check(
    seed: int,
    split: str,
    task: str | None,
    frames: int,
    fps: float,
    aspect: float,
    things: int | None,
) -> None:
    """Raises UserError for what is out of range."""
    if task is not None and task not in STORIES:
        raise unknown("task", task, STORIES)
    story: Story | None = STORIES[task] if task else None
    if seed < 0:
        raise UserError(f"seed {seed} is negative: take 0 or more")
    if not 1 <= frames <= LONGEST:
        raise UserError(f"{frames} frames are out of range: take 1 to {LONGEST:,}")
    if story and frames < story.frames:
        raise UserError(f"task {task!r} needs a film of at least {story.frames} frames: {frames}")
    if not (math.isfinite(fps) and fps > 0):
        raise UserError(f"{fps} frames a second are out of range: take more than 0")
    if not 0.25 <= aspect <= 4:
        raise UserError(f"aspect {aspect} is out of range: take 0.25 to 4 (width over height)")
    if things is not None and not 1 <= things <= _MOST_THINGS:
        raise UserError(f"{things} things are out of range: take 1 to {_MOST_THINGS}")
    if story and things is not None and things < story.least(split):
        raise UserError(f"task {task!r} needs at least {story.least(split)} things: {things}")


def _shoot(
    stage: Stage,
    seed: int,
    frames: int,
    fps: float,
    aspect: float,
    grain: int,
    library: Library | None,
) -> Scene | None:
    """The finished scene, or None where its things find no room."""
    dice = stage.dice

    def clock(beat: float) -> float:
        return beat * grain / fps  # exactly the instant of frame beat * grain

    camera, window = surroundings.camera(stage, clock)
    groups = sorted(stage.groups, key=lambda group: -sum(_bulk(draft) for draft in group))
    extras = [[draft] for draft in stage.extras]
    lap = 0.0 if stage.calm or dice.chance(0.8) else dice.between(0.15, 0.4)
    placed = place([*groups, *extras], len(groups), window, stage.beats, dice, lap)
    if placed is None:
        return None
    placed.sort(key=lambda draft: draft.depth)
    number = {id(draft): place for place, draft in enumerate(placed)}
    finished: list[Thing] = [draft.thing(clock) for draft in placed]
    deeds = sorted(
        (deed for deed in stage.deeds if id(deed.draft) in number), key=lambda deed: deed.start
    )
    events = _events(deeds, number, clock)
    if stage.needle is not None:
        at = dice.below(frames)
        show = (at / fps, (at + 1) / fps)
        needle = number[id(stage.needle)]
        finished[needle] = replace(finished[needle], shown=(show,))
        events = (*events, Event("appear", needle, *show))
    return Scene(
        seed=int(seed),
        split=stage.split,
        frames=int(frames),
        fps=float(fps),
        aspect=float(aspect),
        things=tuple(finished),
        backgrounds=surroundings.backgrounds(stage, clock, library),
        camera=camera,
        light=surroundings.light(stage, clock),
        noise=dice.between(2, 8),
        events=events,
        sounds=tuple(
            Sound(
                noise.kind,
                noise.name,
                clock(noise.start),
                clock(noise.end),
                None if noise.draft is None else number[id(noise.draft)],
                noise.variant,
            )
            for noise in stage.noises
        ),
        narration=tuple(
            Narration(f"the {draft.look.phrase}", clock(start), clock(end), number[id(draft)])
            for draft, start, end in stage.visits
        ),
        cursor=surroundings.cursor(stage.visits, clock),
    )


def _events(deeds: list[Deed], number: dict[int, int], clock: Clock) -> tuple[Event, ...]:
    order = {id(deed): place for place, deed in enumerate(deeds)}
    return tuple(
        Event(
            deed.action,
            number[id(deed.draft)],
            clock(deed.start),
            clock(deed.end),
            deed.detail,
            None if deed.other is None else number[id(deed.other)],
            deed.times,
            None if deed.cause is None else order[id(deed.cause)],
        )
        for deed in deeds
    )


def _bulk(draft: Draft) -> float:
    """The room that a draft needs, roughly: those that need most are placed first."""
    spread = max(draft.x.values) - min(draft.x.values) + max(draft.y.values) - min(draft.y.values)
    return spread + draft.height + draft.width
