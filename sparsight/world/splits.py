"""The splits, and the combinations that training never sees.

"train", "val" and "test" draw from the same looks and actions, in random streams of their own.
"combos" asks about pairs of thing and color, and of thing and action, that the others leave out:
each half is well known from training, the pair is new.
"""

from __future__ import annotations

from sparsight.core.errors import unknown
from sparsight.world.scene import COLORS, DIGITS, LETTERS, SHAPES, Look

SPLITS = ("train", "val", "test", "combos")

_COLORS = tuple(COLORS)
#: Step 5 through 8 colors: no two shapes lose the same one.
_HELD_OUT_LOOKS = frozenset(
    (name, _COLORS[(5 * place + 3) % len(_COLORS)])
    for names in (SHAPES, LETTERS, DIGITS)
    for place, name in enumerate(names)
)
_HELD_OUT_ACTIONS = frozenset(
    {
        ("circle", "bounce"),
        ("circle", "leave"),
        ("square", "spin"),
        ("square", "swap"),
        ("triangle", "blink"),
        ("triangle", "turn"),
        ("star", "grow"),
        ("star", "stop"),
        ("cross", "shrink"),
        ("cross", "pick up"),
        ("ring", "change"),
        ("ring", "appear"),
        ("letter", "grow"),
        ("digit", "blink"),
        ("sprite", "bounce"),
    }
)


def split_index(split: str) -> int:
    """The place of a split in SPLITS; an unknown one raises UserError."""
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return SPLITS.index(split)


def held_out_look(shape: str, color: str) -> bool:
    """Whether a shape, letter or digit in this color is only in "combos": one pair in eight.
    Every name is seen in training in seven colors, every color on most names."""
    return (shape, color) in _HELD_OUT_LOOKS


def held_out_action(noun: str, action: str) -> bool:
    """Whether the pair of thing and action is only in "combos". `noun` is a shape, or the kind
    of anything else: "letter", "digit", "sprite", "sign"."""
    return (noun, action) in _HELD_OUT_ACTIONS


def actor(look: Look) -> str:
    """What held_out_action calls a thing of this look."""
    return look.name if look.kind == "shape" else look.kind
