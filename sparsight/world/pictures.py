"""Stories for what is asked of pictures: things that are there, with evenly drawn looks, numbers,
places and text. In a film some of the things stroll about."""

from __future__ import annotations

from sparsight.world.scene import DIRECTIONS, SHAPES, TEXT_SIZES, Kind
from sparsight.world.sprites import SIGN_LETTERS
from sparsight.world.stage import COLORED, SIDES, Stage


def things(stage: Stage) -> None:
    """Two to five things; sometimes two share a color or a noun, never both."""
    count = stage.count(2, 5)
    stage.subject(count)
    if count > 1 and stage.dice.chance(0.15):
        _twin(stage, count)
    stage.crowd(count)
    _stroll(stage)


def colors(stage: Stage) -> None:
    """A colored thing, and nouns that tell all things apart."""
    count = stage.count(2, 5)
    stage.subject(count, kinds=COLORED)
    stage.crowd(count)
    _stroll(stage)


def shapes(stage: Stage) -> None:
    """A shape, and colors that tell all things apart."""
    count = stage.count(2, 5)
    stage.subject(count, kinds=("shape",))
    stage.crowd(count)
    _stroll(stage)


def counts(stage: Stage) -> None:
    """Half of the scenes: one to six things that share neither color nor noun, each number as
    often. The other half: two to five things of one color or of one shape, each number as often,
    among others that have neither."""
    dice, palette = stage.dice, stage.palette
    if dice.chance(0.5) or stage.total == 1:
        total = stage.count(1, 6)
        for _ in range(total):
            stage.subject(total, kinds=COLORED)
        return
    several = dice.whole(2, min(5, stage.total or 5))
    total = stage.count(several, 6)
    first = palette.look(("shape",))
    stage.subject(total, look=first)
    by_color = dice.chance(0.5)
    for _ in range(several - 1):
        kinds: tuple[Kind, ...] = ("shape", "shape", "letter", "digit") if by_color else ("shape",)
        look = palette.look(
            kinds,
            held=False,
            color=first.color if by_color else None,
            name=None if by_color else first.name,
        )
        stage.subject(total, look=look)
    for _ in range(total - several):
        stage.subject(total, kinds=COLORED)


def sides(stage: Stage) -> None:
    """A thing clearly on one side of the picture, each side as often, among others."""
    dice = stage.dice
    count = stage.count(2, 4)
    draft = stage.subject(count, largest=0.28)
    far = dice.between(0.22, 0.4)
    off = dice.between(-1, 1) * (far - 0.14)
    side = dice.pick(SIDES)
    x, y = DIRECTIONS[side]
    draft.spot = (
        stage.width * (0.5 + (x * far if x else off)),
        stage.height * (0.5 + (y * far if y else off)),
    )
    stage.steady = True  # the side is that of the picture
    stage.crowd(count, largest=0.28)


def signs(stage: Stage) -> None:
    """A sign whose letters are tiny to large, each size as often, before up to two other things;
    sometimes a second sign of another color."""
    dice = stage.dice
    count = stage.count(1, 3)
    bare = stage.split == "combos"  # signs have no pairs to hold out: another thing must have
    second = count > 1 + bare and dice.chance(0.2)
    for _ in range(1 + second):
        low, high = TEXT_SIZES[dice.pick(tuple(TEXT_SIZES))]
        height = dice.between(low, high) / SIGN_LETTERS
        sign = stage.palette.sign(widest=0.92 * stage.width / height)
        draft = stage.draft(sign, height)
        stage.groups.append([draft])
    if bare:
        stage.subject(count)
    stage.crowd(count)


def _twin(stage: Stage, count: int) -> None:
    """Another thing of the subject's color or noun."""
    first = stage.groups[0][0].look
    if not first.color:  # two photographs of a class could not be told apart in words
        return
    if stage.dice.chance(0.5):
        names = [name for name in SHAPES if name != first.name]
        look = stage.palette.look(("shape",), held=False, names=names, color=first.color)
    else:
        look = stage.palette.look((first.kind,), held=False, name=first.name)
    stage.subject(count, look=look)


def _stroll(stage: Stage) -> None:
    """In films, lets some of the things move from beginning to end."""
    if not stage.film:
        return
    for draft in [*(group[0] for group in stage.groups), *stage.extras]:
        if stage.dice.chance(0.35):
            stage.act(draft, "move", 0, stage.last)
