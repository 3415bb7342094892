"""The scene in the making: what stories put on it, and the actions that they give to things."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sparsight.world import motions
from sparsight.world.dice import Dice
from sparsight.world.looks import Palette
from sparsight.world.motions import Deed, Draft
from sparsight.world.scene import DIRECTIONS, Kind, Look
from sparsight.world.splits import actor, held_out_action

#: What one thing does alone, in one event.
ACTS = ("move", "bounce", "spin", "grow", "shrink", "blink", "appear", "leave", "change")
#: What begins with a move, which is an event of its own.
COURSES = ("stop", "turn")
SIDES = ("left", "right", "up", "down")
#: Largest height of a thing in units, by how many there are.
_TALLEST = (0.42, 0.42, 0.36, 0.32, 0.28, 0.25, 0.23)
COLORED: tuple[Kind, ...] = ("shape", "shape", "shape", "letter", "digit")


@dataclass(eq=False)
class Noise:
    """A sound in the making, in beats."""

    kind: Literal["tone", "digit"]
    name: str
    start: int
    end: int
    draft: Draft | None = None
    variant: int = 0


@dataclass
class Stage:
    """What a story works on.

    `beats` is the number of beats, the last of which is shown too; `width` and `height` are the
    picture in units. `total` is how many things the caller wants, None for any number. `tight`
    <= 1 shrinks all sizes, for another try when the things found no room. `groups` are the
    things the story needs, `extras` those that may be left out; `visits` are the stretches in
    which the cursor traces a thing. `needle` is shown in one frame only. `steady` forbids the
    camera to move, `calm` everything around the things. `cuts` are beats at which the scene is
    cut.
    """

    dice: Dice
    split: str
    palette: Palette
    beats: int
    width: float
    height: float
    total: int | None = None
    tight: float = 1.0
    groups: list[list[Draft]] = field(default_factory=list)
    extras: list[Draft] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    noises: list[Noise] = field(default_factory=list)
    visits: list[tuple[Draft, int, int]] = field(default_factory=list)
    needle: Draft | None = None
    cuts: list[int] = field(default_factory=list)
    steady: bool = False
    calm: bool = False

    @property
    def last(self) -> int:
        """The last beat."""
        return self.beats - 1

    @property
    def film(self) -> bool:
        return self.beats > 1

    def count(self, low: int, high: int) -> int:
        """How many things there are to be: as the caller wants, else low to high."""
        return self.total if self.total is not None else self.dice.whole(low, high)

    def size(self, crowd: int, largest: float = 0.42) -> float:
        """The height of one of `crowd` things, from small to large."""
        high = min(_TALLEST[crowd], largest)
        return self.tight * self.dice.between(0.15, max(high, 0.18))

    def draft(self, look: Look, height: float, depth: float = 1.0) -> Draft:
        if look.kind in ("digit", "sprite"):  # fine strokes and small pictures need more room
            height *= 1.15
        return Draft([(0, look)], height, depth=depth + self.dice.random())

    def subject(
        self,
        crowd: int = 3,
        *,
        kinds: Sequence[Kind] = (),
        look: Look | None = None,
        largest: float = 0.42,
    ) -> Draft:
        """A thing that the story is about, in front of the extras; it must find room. By default
        it is colored, or a photograph, which has no pairs to hold out."""
        if look is None:
            photo = self.palette.classes and self.split != "combos" and self.dice.chance(0.15)
            look = self.palette.look(kinds or (("sprite",) if photo else COLORED))
        draft = self.draft(look, self.size(crowd, largest))
        self.groups.append([draft])
        return draft

    def doer(self, crowd: int, action: str, largest: float = 0.42) -> Draft:
        """A subject that may do the action; in "combos" half of them are those whose kind was
        never seen doing it."""
        wanted = self.split == "combos" and self.dice.chance(0.5)
        for _ in range(12):  # mostly the first; where no kind is held out, the last is as good
            look = self.palette.look(COLORED)
            if held_out_action(actor(look), action) == wanted:
                break
            self.palette.names.discard(look.name)
            self.palette.colors.discard(look.color)
        return self.subject(crowd, look=look, largest=largest)

    def crowd(self, upto: int, kinds: Sequence[Kind] | None = None, largest: float = 0.42) -> None:
        """Fills up with extras to `upto` things. They must find room only where the caller wants
        a number of things."""
        there = sum(map(len, self.groups)) + len(self.extras)
        for _ in range(upto - there):
            draft = self.draft(self.palette.look(kinds), self.size(upto, largest), depth=0.0)
            if self.total is None:
                self.extras.append(draft)
            else:
                self.groups.append([draft])

    # Actions

    def choose(self, draft: Draft, start: int, end: int, pool: Iterable[str] = ACTS) -> str | None:
        """An action of the pool that the thing can do from start to end, or None."""
        look = draft.looks[-1][1]
        fit = [action for action in pool if self._fits(look, action, start, end)]
        held = [action for action in fit if held_out_action(actor(look), action)]
        if self.split == "combos" and held and self.dice.chance(0.5):
            return self.dice.pick(held)
        seen = [action for action in fit if action not in held]
        return self.dice.pick(seen) if seen else None

    def _fits(self, look: Look, action: str, start: int, end: int) -> bool:
        if action == "spin":
            return motions.can_spin(look) and end - start >= 2
        if action in ("bounce", "turn"):
            return end - start >= 2
        if action == "stop":
            return end < self.last  # it stays for a while
        if action in ("blink", "appear", "change"):
            if start < 1:
                return False
            return action != "change" or (bool(look.color) and look.kind != "sign")
        return True

    def act(self, draft: Draft, action: str, start: int, end: int) -> Deed:
        """Lets the thing do something; the deed says when it really began and ended."""
        dice, detail, times = self.dice, "", 1
        length = end - start
        if action == "move":
            detail = dice.pick(tuple(DIRECTIONS))
            motions.travel(draft, start, end, detail, self.way(draft, detail))
        elif action == "bounce":
            times = dice.whole(1, max(1, min(3, length // 2)))
            way = dice.between(0.16, 0.26)
            end = motions.bounce(draft, start, length // times, times, way)
        elif action == "spin":
            step = dice.between(35, 60) * dice.pick((-1, 1))
            motions.spin(draft, start, end, step)
        elif action in ("grow", "shrink"):
            motions.resize(draft, start, end, self.factor(draft, action))
        elif action == "blink":
            times = dice.whole(1, max(1, min(3, (length + 1) // 2)))
            end = motions.blink(draft, start, max(2, (length + 1) // times), times)
        elif action == "appear":
            if length >= 2 and not self.deeds_of(draft) and dice.chance(0.4):
                detail = dice.pick(SIDES)
                edge = self.width if detail in ("left", "right") else self.height
                motions.come(draft, start, end, detail, edge, dice.between(0.1, 0.4))
                start += 1  # the first beat at which something of it is in the picture
                self.steady = True
            else:
                motions.appear(draft, start)
                end = start
        elif action == "leave":
            detail = dice.pick(SIDES)
            edge = self.width if detail in ("left", "right") else self.height
            motions.leave(draft, start, end, detail, edge, dice.between(0.05, 0.3))
            self.steady = True
        elif action == "change":
            detail = self.palette.recolored(draft.look)
            motions.recolor(draft, start, detail)
            end = start
        elif action == "stop":
            self.act(draft, "move", start, end)
            start = end
        elif action == "turn":
            middle = dice.whole(start + 1, end - 1)
            first = self.act(draft, "move", start, middle).detail
            start, detail = middle, dice.pick(_turns(first))
            motions.travel(draft, middle, end, detail, self.way(draft, detail))
        else:
            raise AssertionError(action)
        return self.deed(Deed(action, draft, start, end, detail, times=times))

    def deed(self, deed: Deed) -> Deed:
        self.deeds.append(deed)
        return deed

    def deeds_of(self, draft: Draft) -> list[Deed]:
        return [deed for deed in self.deeds if deed.draft is draft]

    def way(self, draft: Draft, direction: str) -> float:
        """How far a thing moves in a direction: clearly, but no farther than the picture."""
        x, y = motions.heading(direction)
        way = self.dice.between(0.3, 0.55)
        if x:
            way = min(way, (self.width - draft.width - 0.06) / abs(x))
        if y:
            way = min(way, (self.height - draft.height - 0.06) / abs(y))
        return way

    def factor(self, draft: Draft, action: str) -> float:
        """By how much a thing grows or shrinks; its height is chosen so that it stays visible."""
        if action == "grow":
            draft.height = min(draft.height, 0.24 * self.tight)
            return self.dice.between(1.5, 1.9)
        draft.height = max(draft.height, 0.24 * self.tight)
        return self.dice.between(0.45, 0.6)


def _turns(direction: str) -> list[str]:
    """The directions that are clearly another one: a right angle away or more."""
    x, y = DIRECTIONS[direction]
    return [name for name, (right, down) in DIRECTIONS.items() if x * right + y * down <= 0]
