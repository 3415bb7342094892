"""Stories for what is asked of films: deeds apart in time, and answers drawn evenly."""

from __future__ import annotations

from collections.abc import Sequence

from sparsight.world import motions
from sparsight.world.motions import Deed, Draft
from sparsight.world.scene import Kind
from sparsight.world.stage import ACTS, COURSES, Noise, Stage
from sparsight.world.timing import timetable

TONES = ("high tone", "low tone", "rising tone", "falling tone")
SPOKEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MOST_REPEATS = 6


def moves(stage: Stage) -> None:
    """One to three things that move, each in one of eight directions for most of the film, among
    others that stay."""
    dice = stage.dice
    count = stage.count(1, 4)
    for _ in range(dice.whole(1, min(3, count))):
        draft = stage.subject(count, largest=0.28)
        start = dice.below(stage.beats // 4 + 1)
        end = stage.last - dice.below(stage.beats // 4 + 1)
        stage.act(draft, "move", start, max(end, start + 1))
    stage.crowd(count, largest=0.26)


def orders(stage: Stage) -> None:
    """Two or three things that each do one thing, one after the other."""
    dice = stage.dice
    most = 3 if stage.beats >= 5 else 2
    count = stage.count(2, 4)
    doers = min(count, most if dice.chance(0.6) else 2)
    for start, end in timetable(dice, stage.beats, doers):
        _deed(stage, stage.subject(count, largest=0.28), start, end)
    stage.crowd(count, largest=0.24)


def repeats(stage: Stage) -> None:
    """A thing that bounces, blinks, grows and goes back, or spins, one to six times, each number
    as often as the film can show it.

    A repetition takes two beats at least: up and down, gone and back, large and small again, so
    the frames show each by itself. A full turn takes three, so spins come only where the film is
    long enough for as many of them as of the others: the number says nothing about the action.
    """
    dice = stage.dice
    most = max(1, min(_MOST_REPEATS, (stage.last - 1) // 2))
    pool = ["bounce", "blink", "grow"]
    if 3 * most <= stage.last - 1:
        pool.append("spin")
    count = stage.count(1, 3)
    draft = stage.subject(count, largest=0.28)
    action = stage.choose(draft, 1, stage.last, pool) or "bounce"
    if action == "spin" and not motions.can_count_turns(draft.look):
        action = stage.choose(draft, 1, stage.last, pool[:3]) or "bounce"
    times = dice.whole(1, most)
    least = 3 if action == "spin" else 2
    period = dice.whole(least, max(least, min(8, (stage.last - 1) // times)))
    start = dice.whole(1, stage.last - times * period)
    if action == "bounce":
        end = motions.bounce(draft, start, period, times, dice.between(0.16, 0.28))
    elif action == "blink":
        end = motions.blink(draft, start, period, times)
    elif action == "grow":
        end = motions.pulse(draft, start, period, times, stage.factor(draft, "grow"))
    else:
        end = motions.whirl(draft, start, period, times)
    stage.deed(Deed(action, draft, start, end, times=times))
    stage.crowd(count, largest=0.26)
    _bystander_moves(stage)


def whens(stage: Stage) -> None:
    """A thing that does something from one frame to another. Its length is drawn first and then
    its start, both evenly, and it is short for the film: no fixed answer is right often."""
    dice = stage.dice
    count = stage.count(1, 4)
    draft = stage.subject(count, largest=0.28)
    shortest = 1 if stage.beats < 12 else 2
    length = dice.whole(shortest, max(2, round(0.4 * stage.beats)))
    start = dice.whole(0, stage.last - length)
    pool = ("move", "bounce", "spin", "grow", "shrink", "blink")
    _deed(stage, draft, start, start + length, pool)
    stage.crowd(count, largest=0.26)
    _bystander_moves(stage)


def needles(stage: Stage) -> None:
    """A calm film of one or two still things; a large letter or digit in one frame only, which
    the sampler chooses."""
    dice = stage.dice
    stage.calm = True
    stage.steady = True
    kind: Kind = dice.pick(("letter", "digit"))
    stage.needle = stage.draft(
        stage.palette.look((kind,)), stage.tight * dice.between(0.34, 0.5), depth=9.0
    )
    stage.groups.append([stage.needle])
    count = stage.count(1, 3)
    stage.crowd(count, kinds=("shape",), largest=0.24)


def captions(stage: Stage) -> None:
    """Two to four deeds of different things or the same one, one after the other; sometimes one
    thing picks up another, or two swap places."""
    dice = stage.dice
    count = stage.count(1, 4)
    most = 2 if stage.beats < 12 else 4
    table = timetable(dice, stage.beats, dice.whole(2, most), gap=1 if stage.beats > 8 else 0)
    doers = [stage.subject(count, largest=0.26) for _ in range(min(count, len(table)))]
    for place, (start, end) in enumerate(table):
        more = place + len(doers) < len(table)
        _deed(stage, doers[place % len(doers)], start, end, more=more)
    stage.crowd(count, largest=0.24)


def summaries(stage: Stage) -> None:
    """A thing that is busy in one to three stretches of the film and still between them."""
    dice = stage.dice
    count = stage.count(1, 3)
    most = 1 if stage.beats < 7 else 2 if stage.beats < 12 else 3
    draft = stage.subject(count, largest=0.26)
    for start, end in timetable(dice, stage.beats, dice.whole(1, most), gap=2):
        _deed(stage, draft, start, end, ("move", "bounce", "spin", "blink"))
    stage.crowd(count, largest=0.26)


def sounds(stage: Stage) -> None:
    """Two things that each do something, one after the other, each with a sound of its own."""
    dice = stage.dice
    count = stage.count(2, 4)
    names = dice.shuffled(TONES)
    words = dice.shuffled(SPOKEN)
    for start, end in timetable(dice, stage.beats, 2, gap=1):
        draft = stage.subject(count, largest=0.28)
        deed = _deed(stage, draft, start, end, ("move", "bounce", "spin", "grow", "shrink"))
        until = max(deed.end, deed.start + 1)
        if stage.palette.speaks and dice.chance(0.5):
            word = words.pop()
            variant = stage.palette.spoken(word)
            stage.noises.append(Noise("digit", word, deed.start, until, draft, variant))
        else:
            stage.noises.append(Noise("tone", names.pop(), deed.start, until, draft))
    stage.crowd(count, largest=0.26)


def narrations(stage: Stage) -> None:
    """Things that stay while the cursor traces two or three of them one after the other and a
    narrator names them."""
    dice = stage.dice
    count = stage.count(2, 4)
    stage.steady = True
    most = 3 if stage.beats >= 8 else 2
    for start, end in timetable(dice, stage.beats, dice.whole(2, min(most, count))):
        stage.visits.append((stage.subject(count), start, end))
    stage.crowd(count)


def freely(stage: Stage) -> None:
    """One to six things; most do something at a time of their own, in long films several things
    one after the other. In some films a cut changes the cast."""
    dice = stage.dice
    count = stage.count(1, 6)
    stage.subject(count)
    stage.crowd(count)
    if stage.last < 4:
        return
    cast = [*(group[0] for group in stage.groups), *stage.extras]
    if count > 1 and dice.chance(0.15):
        cast = _cut(stage, cast)
    for draft in cast:
        if dice.chance(0.4):
            continue
        most = 1 if stage.beats < 16 else 3
        table = timetable(dice, stage.beats, dice.whole(1, most), gap=1)
        for place, (start, end) in enumerate(table):
            pool = (*ACTS, *COURSES)
            _deed(stage, draft, start, end, pool, more=place + 1 < len(table))


def _cut(stage: Stage, cast: list[Draft]) -> list[Draft]:
    """Cuts the film in two: some of the cast are there only before, some only after. Returns
    those that are there all the time."""
    beat = stage.dice.whole(2, stage.last - 2)
    stage.cuts = [beat]
    stay = []
    for draft in cast:
        role = stage.dice.below(3)
        if role == 0:
            stay.append(draft)
        elif role == 1:
            draft.shown, draft.inside = [(0, beat)], (0, beat)
        else:
            motions.appear(draft, beat)
    return stay


def _bystander_moves(stage: Stage) -> None:
    """Sometimes lets one of the extras go somewhere, so that not all that moves is asked about."""
    if stage.extras and stage.dice.chance(0.4):
        start = stage.dice.below(stage.last - 1)
        _deed(stage, stage.extras[0], start, stage.dice.whole(start + 2, stage.last), ("move",))


def _deed(
    stage: Stage,
    draft: Draft,
    start: int,
    end: int,
    pool: Sequence[str] = ACTS,
    *,
    more: bool = False,
) -> Deed:
    """Lets the thing do something of the pool that fits; moving always does. `more`: it has
    something to do afterwards."""
    barred = set()
    if more:
        barred.add("leave")
    if stage.deeds_of(draft):
        barred.add("appear")
    pool = [action for action in pool if action not in barred]
    return stage.act(draft, stage.choose(draft, start, end, pool) or "move", start, end)
