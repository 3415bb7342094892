"""Chooses what things look like: nouns and colors evenly, held-out pairs only where they belong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sparsight.world.dice import Dice
from sparsight.world.library import SHARES, Library
from sparsight.world.scene import COLORS, DIGITS, LETTERS, SHAPES, Kind, Look
from sparsight.world.splits import held_out_look
from sparsight.world.sprites import FONTS, sign_aspect

#: What the text of a sign is made of: capitals and digits that differ even when tiny.
SIGN_TEXT = (*LETTERS, "3", "4", "6", "7", "8", "9")
_NAMES: dict[str, tuple[str, ...]] = {"shape": SHAPES, "letter": LETTERS, "digit": DIGITS}
_COLORS = tuple(COLORS)
#: For each name the colors of training, and those of "combos".
_SEEN = {
    name: tuple(color for color in COLORS if not held_out_look(name, color))
    for names in _NAMES.values()
    for name in names
}
_HELD = {name: tuple(c for c in COLORS if held_out_look(name, c)) for name in _SEEN}
_NARROWEST = min(range(len(FONTS)), key=lambda font: FONTS[font].width)
_TENS = 17  # of variants that every handwritten digit of scikit-learn has


class Palette:
    """Draws the looks of one scene. Nouns and colors do not repeat unless they are asked to, so
    that each thing can be named by either."""

    def __init__(self, dice: Dice, split: str, library: Library | None) -> None:
        self.dice = dice
        self.split = split
        self.library = library
        self.classes: tuple[str, ...] = library.classes if library else ()
        self.names: set[str] = set()
        self.colors: set[str] = set()

    def look(
        self,
        kinds: Iterable[Kind] | None = None,
        *,
        held: bool | None = None,
        names: Iterable[str] | None = None,
        color: str | None = None,
        name: str | None = None,
    ) -> Look:
        """A new look.

        `kinds` it may have, by default a mixture; `names` restricts it further. `held`: whether
        a held-out pair is wanted, by default in "combos". `color`, `name`: given in advance.
        """
        kind = self.dice.pick(tuple(kinds)) if kinds else self._kind()
        if kind == "sign":
            return self.sign()
        if kind == "sprite":
            return self._photo()
        held = self.split == "combos" if held is None else held
        table = _HELD if held else _SEEN
        if name is None:
            pool = [n for n in (names or _NAMES[kind]) if n in _NAMES[kind]]
            if color is not None:
                pool = [n for n in pool if color in table[n]] or pool
            if color is None:  # "combos" has one color a name: look for one that is left
                pool = [n for n in pool if not self.colors.issuperset(table[n])] or pool
            name = self._fresh(pool, self.names)
        if color is None:
            color = self._fresh(table[name], self.colors)
        self.names.add(name)
        self.colors.add(color)
        return Look(kind, name, color, self._variant(kind, name))

    def recolored(self, look: Look) -> str:
        """Another color for the same thing, one that nothing in the scene has yet."""
        color = self._fresh(_SEEN[look.name], self.colors)
        self.colors.add(color)
        return color

    def sign(self, length: int | None = None, widest: float = 4.0) -> Look:
        """A sign with two or three letters and digits, at most `widest` times as wide as high
        where a font can do so."""
        text = self.text(length or self.dice.whole(2, 3))
        fonts = [font for font in range(len(FONTS)) if sign_aspect(text, font) <= widest]
        font = self.dice.pick(fonts or [_NARROWEST])
        color = self._fresh(_COLORS, self.colors)
        self.colors.add(color)
        return Look("sign", text, color, font, sign_aspect(text, font))

    def letters(self, count: int) -> list[Look]:
        """`count` letters of one color, each of which may follow the other on one thing. In
        "combos" the first is a held-out pair, else none is."""
        first = self.look(("letter",))
        others = [
            name
            for name in LETTERS
            if name != first.name and (self.split == "combos" or first.color in _SEEN[name])
        ]
        self.names.update(LETTERS)  # no other letter beside it
        return [
            first,
            *(replace(first, name=name) for name in self.dice.shuffled(others)[: count - 1]),
        ]

    def sign_like(self, sign: Look, text: str) -> Look:
        """The same plate with another text."""
        return replace(sign, name=text, aspect=sign_aspect(text, sign.variant))

    @property
    def speaks(self) -> bool:
        """Whether there are spoken digits."""
        return self.library is not None and self.library.count("spoken", "zero", self.split) > 0

    def spoken(self, word: str) -> int:
        """Which recording of a spoken digit."""
        assert self.library is not None
        return self.library.variant("spoken", word, self.split, self.dice.rng)

    def text(self, length: int) -> str:
        return "".join(self.dice.pick(SIGN_TEXT) for _ in range(length))

    def _kind(self) -> Kind:
        draw = self.dice.random()
        if draw < 0.2 and self.classes:
            return "sprite"
        if draw < 0.6:
            return "shape"
        return "letter" if draw < 0.8 else "digit"

    def _photo(self) -> Look:
        assert self.library is not None
        name = self._fresh(self.classes, self.names)
        self.names.add(name)
        return Look("sprite", name, "", self._variant("sprite", name))

    def _variant(self, kind: Kind, name: str) -> int:
        """Which font, handwritten digit or photograph; the splits share none of the latter."""
        if kind == "letter":
            return self.dice.below(len(FONTS))
        if kind not in ("digit", "sprite"):
            return 0
        if self.library is None:
            return self.dice.below(_TENS) * 10 + self.dice.pick(SHARES[self.split])
        source = "photo" if kind == "sprite" else "digit"
        return self.library.variant(source, name, self.split, self.dice.rng)

    def _fresh(self, pool: Iterable[str], used: set[str]) -> str:
        """One of the pool that is not in use, or any where all are."""
        pool = tuple(pool)
        free = [item for item in pool if item not in used]
        return self.dice.pick(free or pool)
