"""When things happen: stretches of time, summaries, dense captions, the needle in the film.

Times are seconds with one decimal. What cannot be told that exactly is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sparsight.world.scene import ACTIONS, COLORS, DIGITS, DIRECTIONS, LETTERS
from sparsight.world.tasks.deeds import LASTING, MOTIONS
from sparsight.world.tasks.family import Fact, Family, Group, pick
from sparsight.world.tasks.question import Guess
from sparsight.world.tasks.scoring import Span, overlap
from sparsight.world.tasks.sight import Sight

_EXACT = 0.75  # overlap of a rounded interval with the true one
_LEAST = 2  # frames that an event lasts which is asked about
_GAP = 1.5  # frames between two stretches, at least
_MOST_STRETCHES = 4
_BUSY = 0.8  # share of the film that the stretches of a summary may take
_MOST_EVENTS = 5
_NEEDLE_FRAMES = 4  # a film in which one frame is an odd one


def interval_text(span: Span) -> str:
    return f"{span[0]:.1f} to {span[1]:.1f}"


def _exact(span: Span) -> bool:
    """Whether one decimal is enough for a stretch."""
    return overlap((round(span[0], 1), round(span[1], 1)), span) >= _EXACT


def _when(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    deeds = sight.deeds
    found = []
    for i, event in enumerate(deeds.events):
        first, last = deeds.frames[i]
        span = (event.start, event.end)
        if event.action not in LASTING or not deeds.on_frames(i) or not deeds.only(i):
            continue
        if last - first < _LEAST or not _exact(span) or not _unmistaken(sight, i):
            continue
        partner = deeds.partner(i)
        name = sight.name(event.thing, rng)
        if not name or (partner is not None and not sight.names[partner]):
            continue
        act = event.action
        if partner is not None:
            act = f"swap places with the {sight.names[partner][0]}"
        fill = {"thing": name, "act": act}
        guess = guess_spans(sight, 1)
        found.append(
            Fact(
                "when",
                interval_text(span),
                fill,
                (event.thing,),
                event.action,
                guess=guess,
            )
        )
    return found


def _unmistaken(sight: Sight, i: int) -> bool:
    """Whether nothing else looks like it: no other motion beside a motion, no camera that moves
    everything."""
    event = sight.deeds.events[i]
    if event.action == "turn" or sight.deeds.goes_back(i):
        return False  # it moves before it turns, and shrinks as much as it grows
    if event.action in MOTIONS:
        return sight.steady_camera and sight.deeds.goes_once(i)
    return event.action == "blink" or len(sight.scene.camera.zoom.values) == 1


def guess_spans(sight: Sight, count: int) -> Guess:
    """So many stretches of frames of this film, one after the other."""
    longest = max(_LEAST, (sight.frames - 1) // (2 * count))

    def guess(rng: np.random.Generator) -> str:
        last = sight.frames - 1
        edges: list[int] = []
        at = 0
        for left in range(count, 0, -1):
            room = max(at, last - left * (longest + 1))
            start = at + int(rng.random() * (room - at + 1))
            length = _LEAST + int(rng.random() * (longest - _LEAST + 1))
            edges += [start, min(last, start + length)]
            at = edges[-1] + 2
        times = [edge * sight.step for edge in edges]
        return ", ".join(map(interval_text, zip(times[::2], times[1::2], strict=True)))

    return guess


def _summary(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """The stretches in which a thing does anything, where it is clear and at rest between them."""
    deeds = sight.deeds
    found: list[Fact] = []
    if not sight.steady_camera:
        return found
    for thing in range(sight.count):
        mine = deeds.of(thing)
        name = sight.name(thing, rng)
        if not name or not mine or not all(_plain(sight, i) for i in mine):
            continue
        spans = _joined([(deeds.events[i].start, deeds.events[i].end) for i in mine])
        gaps = [b[0] - a[1] for a, b in pairwise(spans)]
        busy = sum(end - start for start, end in spans)
        if (
            len(spans) <= _MOST_STRETCHES
            and min(gaps, default=np.inf) >= _GAP * sight.step
            and busy <= _BUSY * sight.scene.duration
            and all(map(_exact, spans))
        ):
            answer = ", ".join(map(interval_text, spans))
            action = deeds.events[mine[0]].action
            guess = guess_spans(sight, len(spans))
            found.append(Fact("summary", answer, {"thing": name}, (thing,), action, guess=guess))
    return found


def _plain(sight: Sight, i: int) -> bool:
    """Whether an event lasts a while and is seen from beginning to end."""
    first, last = sight.deeds.frames[i]
    action = sight.deeds.events[i].action
    return sight.deeds.on_frames(i) and action in LASTING and last > first


def _joined(spans: list[Span]) -> list[Span]:
    """The stretches in order, those that touch made one."""
    done: list[Span] = []
    for start, end in sorted(spans):
        if done and start <= done[-1][1] + 1e-9:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((start, end))
    return done


def _caption(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """Everything that happens, with times, where all of it is seen and can be named."""
    deeds = sight.deeds
    if not 1 <= len(deeds.events) <= _MOST_EVENTS or sight.scene.cuts:
        return []
    if not all(map(deeds.on_frames, range(len(deeds.events)))):
        return []
    told = []
    for i, event in enumerate(deeds.events):
        partner = deeds.partner(i)
        names = [sight.names[k] for k in (event.thing, partner) if k is not None]
        if not all(names) or not _told_exactly(sight, (event.start, event.end)):
            return []
        if event.times == 1 and deeds.goes_back(i):
            return []  # it grows and shrinks
        told.append((event.start, event.end, deeds.sentence(i, *(name[0] for name in names))))
    if not _all_told(sight):
        return []
    answer = "; ".join(f"{_times(start, end)}: {words}" for start, end, words in sorted(told))
    fact = Fact("caption", answer, {}, guess=_guess_caption(sight, len(told)))
    fact.slack = sight.step
    return [fact]


def _told_exactly(sight: Sight, span: Span) -> bool:
    return _exact(span) if span[1] > span[0] else sight.step >= 0.1 - 1e-9


def _times(start: float, end: float) -> str:
    return interval_text((start, end)) if end > start else f"{start:.1f}"


def _all_told(sight: Sight) -> bool:
    """Whether things come, go and change only by events."""
    for thing in range(sight.count):
        mine = {sight.deeds.events[i].action for i in sight.deeds.of(thing)}
        comes = len(set(sight.in_view[:, thing].tolist())) > 1
        if comes and mine.isdisjoint(("appear", "leave", "blink")):
            return False
        if len(sight.looks[thing]) > 1 and "change" not in mine:
            return False
    return True


def _guess_caption(sight: Sight, count: int) -> Guess:
    """As many events of the things that are there, at other times."""
    names = [names[0] for names in sight.names if names]
    spans = guess_spans(sight, count)
    verbs = [name for name in ACTIONS if name not in ("pick up", "swap", "turn", "stop")]

    def guess(rng: np.random.Generator) -> str:
        said = []
        for span in spans(rng).split(", "):
            verb = pick(rng, verbs)
            detail = pick(rng, tuple(COLORS if verb == "change" else DIRECTIONS))
            words = ACTIONS[verb].format(detail=detail)
            at = span.split(" ")[0] if verb in ("appear", "change") else span
            said.append(f"{at}: the {pick(rng, names)} {words}")
        return "; ".join(said)

    return guess


def _needle(sight: Sight, rng: np.random.Generator) -> list[Fact]:
    """The one thing that a single frame shows, among things that are there throughout."""
    if sight.frames < _NEEDLE_FRAMES or sight.scene.cuts:
        return []
    shown = sight.in_view.sum(0).tolist()
    brief = [thing for thing, frames in enumerate(shown) if frames == 1]
    rest = [frames for frames in shown if frames not in (0, 1)]
    if len(brief) != 1 or any(frames < sight.frames for frames in rest):
        return []
    (thing,) = brief
    look = sight.looks[thing][0]
    clear = sight.clear[:, thing].any() and len(sight.looks[thing]) == 1
    if not clear or look.kind not in ("letter", "digit"):
        return []
    return [Fact(look.kind, look.name, {"kind": look.kind}, (thing,))]


def moment(sight: Sight, frames: Sequence[int], rng: np.random.Generator) -> str | None:
    """The time of one of the frames, of those that one decimal tells from their neighbours."""
    fit = [k for k in frames if abs(round(k * sight.step, 1) - k * sight.step) <= sight.step / 4]
    return f"{pick(rng, fit) * sight.step:.1f}" if fit else None


WHEN = Family(
    "when",
    _when,
    {
        "when": Group(
            (
                "When does the {thing} {act}?",
                "From when to when does the {thing} {act}?",
                "At what time does the {thing} {act}?",
            ),
            "interval",
            timed=True,
        )
    },
    needs="events",
    films=True,
)
SUMMARY = Family(
    "summary",
    _summary,
    {
        "summary": Group(
            (
                "In which stretches does the {thing} do something?",
                "When is the {thing} busy? Name every stretch.",
                "Which parts of the film show the {thing} doing something?",
            ),
            "segments",
            timed=True,
        )
    },
    needs="events",
    films=True,
)
CAPTION = Family(
    "caption",
    _caption,
    {
        "caption": Group(
            (
                "Tell what happens, with times.",
                "Describe everything that happens and when.",
                "What happens in the film, and when?",
            ),
            "caption",
            timed=True,
        )
    },
    needs="events",
    films=True,
)
_NEEDLES = (
    "Which {kind} is shown in a single frame?",
    "One frame shows something else. Which {kind} is it?",
    "Which {kind} flashes up?",
    "Which {kind} do you see for one moment only?",
)
NEEDLE = Family(
    "needle",
    _needle,
    {"letter": Group(_NEEDLES, choices=LETTERS), "digit": Group(_NEEDLES, choices=DIGITS)},
    films=True,
)
