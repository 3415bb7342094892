"""Deeds that take two: one thing touches another and something follows, picks it up, or swaps
places with it. The two are placed together, so that they meet where they should."""

from __future__ import annotations

import math

from sparsight.world import motions
from sparsight.world.motions import Deed, Draft
from sparsight.world.scene import DIRECTIONS
from sparsight.world.stage import SIDES, Stage
from sparsight.world.timing import timetable

#: What a touch can make a thing do, each as often.
EFFECTS = ("move", "spin", "grow", "shrink", "blink", "change")


def causes(stage: Stage) -> None:
    """One thing runs into another, which at that moment begins to do something; often a third
    moves too and touches nothing. Sometimes the first picks the second up."""
    dice = stage.dice
    count = stage.count(2, 4)
    touch = dice.whole(2, max(2, stage.last - 2))
    begin = dice.below(touch - 1)
    end = dice.whole(min(touch + 2, stage.last), stage.last)
    if dice.chance(0.15):
        pick_up(stage, count, begin, touch, end)
    else:
        touches(stage, count, begin, touch, end)
    if count > 2:
        other = stage.subject(count, largest=0.22)
        if dice.chance(0.75):
            start = dice.below(stage.last - 1)
            stage.act(other, "move", start, dice.whole(start + 2, stage.last))
    stage.crowd(count, largest=0.2)


def touches(stage: Stage, count: int, begin: int, touch: int, end: int) -> None:
    """The first thing goes to the second, reaches it at `touch` and stays; from then to `end` the
    second does something."""
    dice = stage.dice
    first, second = _two(stage, count)
    effect = stage.choose(second, touch, end, EFFECTS) or "move"
    direction = dice.pick(SIDES)
    if effect == "move":  # pushed on
        meet = _meet(first, second, direction)
        way = min(dice.between(0.22, 0.35), stage.way(second, direction))
        motions.travel(second, touch, end, direction, way)
        deed = Deed("move", second, touch, end, direction)
    else:
        deed = stage.act(second, effect, touch, end)
        stage.deeds.remove(deed)  # it comes after its cause
        meet = _meet(first, second, direction)
        _give_way(second, direction, touch, end)
    _approach(stage, first, direction, meet, begin, touch)
    deed.cause = stage.deed(Deed("move", first, begin, touch, direction, other=second))
    stage.deed(deed)


def pick_up(stage: Stage, count: int, begin: int, touch: int, end: int) -> None:
    """The first thing goes to the second, and from `touch` to `end` carries it elsewhere."""
    dice = stage.dice
    first, second = _two(stage, count, "pick up")
    direction = dice.pick(SIDES)
    meet = _meet(first, second, direction)
    _approach(stage, first, direction, meet, begin, touch)
    stage.deed(Deed("move", first, begin, touch, direction, other=second))
    onward = dice.pick([to for to in DIRECTIONS if to != direction])
    way = 0.75 * min(stage.way(first, onward), stage.way(second, onward))
    for draft in (first, second):
        motions.travel(draft, touch, end, onward, way)
    lift = stage.deed(Deed("pick up", first, touch, end, onward, other=second))
    stage.deed(Deed("move", second, touch, end, onward, cause=lift))


def swap(stage: Stage, count: int, start: int, end: int) -> None:
    """Two things change places, passing each other on an arc."""
    dice = stage.dice
    first, second = _two(stage, count, "swap")
    wide = dice.between(0.3, 0.45)
    arc = 0.55 * (first.height + second.height) / 2
    along, across = dice.shuffled(("x", "y"))
    for draft, way in ((first, wide), (second, -wide)):
        line, bow = getattr(draft, along), getattr(draft, across)
        line.values[0] = -way / 2
        line.ramp(start, end, way / 2)
        bow.ramp(start, (start + end) / 2, arc if way > 0 else -arc)
        bow.ramp((start + end) / 2, end, 0.0)
    stage.deed(Deed("swap", first, start, end, other=second))


def encounters(stage: Stage) -> None:
    """Two things swap places, or one picks up the other."""
    count = stage.count(2, 3)
    (start, end) = timetable(stage.dice, stage.beats, 1)[0]
    end = min(stage.last, max(end, start + 3))
    if stage.dice.chance(0.5) or stage.last < 5:
        swap(stage, count, start, end)
    else:
        touch = stage.dice.whole(2, stage.last - 2)
        pick_up(stage, count, stage.dice.below(touch - 1), touch, stage.last)
    stage.crowd(count, largest=0.22)


def _two(stage: Stage, count: int, action: str = "move") -> tuple[Draft, Draft]:
    """Two subjects as one group, the first of which may do the action."""
    first = stage.doer(count, action, largest=0.22)
    second = stage.subject(count, largest=0.22)
    stage.groups[-2:] = [[first, second]]
    return first, second


def _meet(first: Draft, second: Draft, direction: str) -> float:
    """How far apart the centers are when the first reaches the second in a direction."""
    x, _ = DIRECTIONS[direction]
    sizes = (first.width, second.width) if x else (first.height, second.height)
    return sum(sizes) / 2


def _give_way(draft: Draft, direction: str, start: int, end: int) -> None:
    """What grows or turns needs more room: it shifts by as much, away from what touches it."""
    x, _ = DIRECTIONS[direction]
    size = draft.width if x else draft.height
    more = max(0.0, draft.scale.values[-1] - 1) * size / 2
    if draft.angle.values[-1]:
        more, end = (math.hypot(draft.width, draft.height) - size) / 2, start + 1
    if more:
        motions.travel(draft, start, end, direction, more)


def _approach(
    stage: Stage, first: Draft, direction: str, meet: float, begin: int, touch: int
) -> None:
    """Starts the first thing at a distance in front of the second, and brings it there."""
    x, y = DIRECTIONS[direction]
    way = max(0.2, stage.tight * stage.dice.between(0.22, 0.35))
    knots = first.x if x else first.y
    knots.values[0] = -(x + y) * (meet + way)
    motions.travel(first, begin, touch, direction, way)
