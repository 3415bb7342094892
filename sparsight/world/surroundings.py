"""What is around the things: backgrounds and cuts, light, grain, camera and cursor."""

from __future__ import annotations

import math

from sparsight.world.layout import Window
from sparsight.world.library import Library
from sparsight.world.motions import Clock, Draft
from sparsight.world.scene import Background, Camera, Steps, Track, constant
from sparsight.world.stage import Stage

_PHOTOS = 2**16  # numbers of photographs; the library starts anew after its last one


def backgrounds(stage: Stage, clock: Clock, library: Library | None) -> Steps[Background]:
    """One background, another one after each cut. In one film of twelve there are one or two
    cuts, through which the things go on."""
    dice = stage.dice
    beats = stage.cuts
    if not beats and stage.last >= 4 and not stage.calm and dice.chance(0.08):
        beats = [dice.whole(2, stage.last - 1)]
        if stage.last - beats[0] > 2 and dice.chance(0.5):
            beats.append(dice.whole(beats[0] + 2, stage.last - 1))
    found = []
    for _ in range(len(beats) + 1):
        seed = dice.seed()
        if library is not None and library.classes and dice.chance(0.4):
            found.append(Background("photo", seed, dice.below(_PHOTOS)))
        else:
            found.append(Background("texture", seed))
    return Steps((0.0, *map(clock, beats)), tuple(found))


def light(stage: Stage, clock: Clock) -> Track:
    """A little darker or lighter; in one film of eight it changes on the way."""
    dice = stage.dice
    level = dice.between(0.85, 1.1)
    if stage.calm or stage.last < 3 or not dice.chance(0.12):
        return constant(level)
    start = dice.below(stage.last - 1)
    end = dice.whole(start + 1, stage.last)
    other = level * (dice.between(0.65, 0.85) if dice.chance(0.5) else dice.between(1.15, 1.3))
    if start == 0:
        return Track((0.0, clock(end)), (level, other))
    return Track((0.0, clock(start), clock(end)), (level, level, other))


def camera(stage: Stage, clock: Clock) -> tuple[Camera, Window]:
    """The camera, and the part of the scene that is in its picture all the time.

    It rests in most films; in one of seven it pans or zooms slowly, far less than things move.
    In pictures it may stand off the middle and nearer.
    """
    dice = stage.dice
    whole = (0.0, 0.0, stage.width, stage.height)
    if stage.calm or stage.steady or not dice.chance(0.15):
        return Camera(), whole
    if not stage.film:
        shift = (dice.between(-0.1, 0.1), dice.between(-0.1, 0.1))
        zoom = dice.between(1.0, 1.25)
        still = Camera(constant(shift[0]), constant(shift[1]), constant(zoom))
        return still, _window(stage, [shift], [zoom])
    end = clock(stage.last)
    if dice.chance(0.5):
        turn = dice.between(0, 2 * math.pi)
        way = dice.between(0.04, 0.09)
        path = [(0.0, 0.0), (way * math.cos(turn), way * math.sin(turn))]
        x, y = (Track((0.0, end), (a, b)) for a, b in zip(*path, strict=True))
        return Camera(x, y), _window(stage, path, [1.0])
    zooms = [1.0, dice.between(1.1, 1.25)]
    if dice.chance(0.5):
        zooms.reverse()
    zoomed = Camera(zoom=Track((0.0, end), (zooms[0], zooms[1])))
    return zoomed, _window(stage, [(0.0, 0.0)], zooms)


def _window(stage: Stage, shifts: list[tuple[float, float]], zooms: list[float]) -> Window:
    """What all of the shifts at the nearest of the zooms show."""
    half_w, half_h = stage.width / 2 / max(zooms), stage.height / 2 / max(zooms)
    x, y = zip(*shifts, strict=True)
    return (
        stage.width / 2 + max(x) - half_w,
        stage.height / 2 + max(y) - half_h,
        stage.width / 2 + min(x) + half_w,
        stage.height / 2 + min(y) + half_h,
    )


def cursor(visits: list[tuple[Draft, int, int]], clock: Clock) -> tuple[Track, Track] | None:
    """The path of the pointer: once around the box of each thing, and straight on to the next.
    It reaches a thing at the beat at which the narrator begins to name it."""
    if not visits:
        return None
    knots: dict[float, tuple[float, float]] = {}
    for draft, start, end in visits:
        x, y = draft.anchor
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
        for corner, (right, down) in enumerate(corners):
            # three quarters of the time: the rest is the way to the next thing
            at = start + (end - start) * 0.75 * corner / 4
            knots[at] = (x + right * draft.width * 0.45, y + down * draft.height * 0.45)
    times = tuple(map(clock, knots))
    x_values, y_values = zip(*knots.values(), strict=True)
    return Track(times, x_values), Track(times, y_values)
