"""Things that change while the film runs: a color, the text of a sign, which letter it is."""

from __future__ import annotations

from sparsight.world import motions
from sparsight.world.looks import SIGN_TEXT
from sparsight.world.motions import Deed
from sparsight.world.scene import TEXT_SIZES
from sparsight.world.sprites import SIGN_LETTERS
from sparsight.world.stage import Stage
from sparsight.world.timing import parts


def states(stage: Stage) -> None:
    """One thing changes one to three times, never back; each state lasts at least two beats where
    there is time, so that frames show it."""
    dice = stage.dice
    count = stage.count(1, 3)
    times = dice.whole(1, max(1, min(3, stage.beats // 2 - 1)))
    least = 2 if stage.beats >= 2 * (times + 1) else 1
    lengths = parts(dice, stage.beats, [least] * (times + 1))
    beats = [sum(lengths[: i + 1]) for i in range(times)]
    what = dice.random()
    bare = stage.split == "combos"  # signs have no pairs to hold out: another thing must have
    if what < 0.25 and not (bare and count == 1):
        sign_changes(stage, beats)
        if bare:
            stage.subject(count)
    elif what < 0.4:
        letter_changes(stage, count, beats)
    else:
        color_changes(stage, count, beats)
    stage.crowd(count, largest=0.28)


def color_changes(stage: Stage, count: int, beats: list[int]) -> None:
    draft = stage.doer(count, "change")
    for beat in beats:
        color = stage.palette.recolored(draft.look)
        motions.recolor(draft, beat, color)
        stage.deed(Deed("change", draft, beat, beat, color))


def letter_changes(stage: Stage, count: int, beats: list[int]) -> None:
    first, *others = stage.palette.letters(len(beats) + 1)
    draft = stage.subject(count, look=first)
    for beat, look in zip(beats, others, strict=True):
        draft.looks.append((beat, look))
        stage.deed(Deed("change", draft, beat, beat, look.name))


def sign_changes(stage: Stage, beats: list[int]) -> None:
    """A medium or large sign; all its texts are as long."""
    dice, palette = stage.dice, stage.palette
    low, high = TEXT_SIZES[dice.pick(("medium", "large"))]
    height = stage.tight * dice.between(low, high) / SIGN_LETTERS
    sign = palette.sign(widest=0.75 * stage.width / height)  # another text may be wider
    draft = stage.draft(sign, height)
    stage.groups.append([draft])
    said = {sign.name}
    for beat in beats:
        text = sign.name
        while text in said:
            text = "".join(dice.pick(SIGN_TEXT) for _ in sign.name)
        said.add(text)
        draft.looks.append((beat, palette.sign_like(sign, text)))
        stage.deed(Deed("change", draft, beat, beat, text))
