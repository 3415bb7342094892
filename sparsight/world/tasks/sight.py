"""A scene as questions see it: what is visible, what things are called, what they do.

Made once a scene and shared by all questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from sparsight.world.scene import Look
from sparsight.world.tasks.deeds import Deeds
from sparsight.world.tasks.visible import Visible

_LARGER = 1.35  # how many times as high and wide the largest thing must be, in the mean

Names = tuple[str, ...]


class Sight(Visible):
    """What is visible of a scene, with words for its things and its events."""

    @cached_property
    def deeds(self) -> Deeds:
        return Deeds(self)

    @cached_property
    def looks(self) -> list[tuple[Look, ...]]:
        """All looks of each thing."""
        return [thing.looks.values for thing in self.scene.things]

    @cached_property
    def kinds(self) -> list[str]:
        return [looks[0].kind for looks in self.looks]

    @cached_property
    def colors(self) -> list[str]:
        """The color of each thing; "" for those that change it and for photographs."""
        return [_only(look.color for look in looks) for looks in self.looks]

    @cached_property
    def nouns(self) -> list[str]:
        """The noun of each thing; "" for those that become another."""
        return [_only(look.noun for look in looks) for looks in self.looks]

    @cached_property
    def plain_names(self) -> list[Names]:
        """For each thing all names that tell it from the others and not its color: "ring",
        "letter" where there is one only. None of a thing that is never in view."""
        nouns = Counter(noun for looks in self.looks for noun in {look.noun for look in looks})
        kinds = Counter(self.kinds)
        found = []
        for noun, kind, seen in zip(self.nouns, self.kinds, self.ever, strict=True):
            names = [noun] if seen and noun and nouns[noun] == 1 else []
            if seen and kind in ("letter", "digit") and kinds[kind] == 1:
                names.append(kind)
            found.append(tuple(names))
        return found

    @cached_property
    def names(self) -> list[Names]:
        """For each thing its full name, where no other has it too, else its plain ones."""
        phrases = Counter(name for looks in self.looks for name in {look.phrase for look in looks})
        found = []
        for place, looks in enumerate(self.looks):
            name = looks[0].phrase
            alone = len(looks) == 1 and phrases[name] == 1 and self.ever[place]
            alone = alone and looks[0].kind != "sign"  # a red one, or one with red letters?
            found.append((name,) if alone else self.plain_names[place])
        return found

    @cached_property
    def largest(self) -> int | None:
        """Of a picture the thing that is clearly larger than all others."""
        if self.frames > 1 or self.count < 2 or not all(self.always) or self.cluttered:
            return None
        size = np.sqrt((self.clip[0, :, 2:] - self.clip[0, :, :2]).prod(-1))
        order = np.argsort(size)
        return int(order[-1]) if size[order[-1]] >= _LARGER * size[order[-2]] else None

    @cached_property
    def cluttered(self) -> bool:
        """Whether there is more in the picture than the things: a photograph behind them, a
        pointer, a plate that is hardly called a thing."""
        photo = any(shown.kind == "photo" for shown in self.scene.backgrounds.values)
        return photo or self.scene.cursor is not None or "sign" in self.kinds

    def name(self, thing: int, rng: np.random.Generator) -> str | None:
        """How to call a thing: mostly in full, sometimes by noun where that suffices."""
        names, plain = self.names[thing], self.plain_names[thing]
        if plain and rng.random() < 0.3:
            return plain[0]
        return names[0] if names else None

    def plain_name(self, thing: int, rng: np.random.Generator) -> str | None:
        """How to call a thing without its color."""
        names = self.plain_names[thing]
        if thing == self.largest and (not names or rng.random() < 0.3):
            return "largest thing"
        return names[int(rng.random() * len(names))] if names else None

    def percent(self, thing: int, frame: int = 0) -> str:
        """The box of a thing, "[x0, y0, x1, y1]" in percent of the picture."""
        return "[" + ", ".join(str(round(100 * x)) for x in self.clip[frame, thing].tolist()) + "]"


def _only(values: Iterable[str]) -> str:
    """The one value, "" where there are several."""
    first, *others = values
    return first if all(value == first for value in others) else ""
