"""Which story a task is told by, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparsight.world import films, pairs, pictures, states
from sparsight.world.dice import Dice
from sparsight.world.stage import Stage


@dataclass(frozen=True)
class Story:
    """`tell` puts things and deeds on a stage of at least `frames` frames and `things` things.
    `combos`: as many things in the split of that name."""

    tell: Callable[[Stage], None]
    frames: int = 1
    things: int = 1
    combos: int = 1

    def least(self, split: str) -> int:
        """How many things it needs at least."""
        return max(self.things, self.combos if split == "combos" else 1)


STORIES: dict[str, Story] = {
    "exists": Story(pictures.things),
    "color": Story(pictures.colors),
    "shape": Story(pictures.shapes),
    "count": Story(pictures.counts),
    "where": Story(pictures.sides),
    "box": Story(pictures.things),
    "read": Story(pictures.signs, combos=2),
    "region": Story(pictures.things),
    "move": Story(films.moves, 2),
    "order": Story(films.orders, 4, 2),
    "repeat": Story(films.repeats, 4),
    "when": Story(films.whens, 4),
    "needle": Story(films.needles, 2),
    "state": Story(states.states, 2),
    "cause": Story(pairs.causes, 5, 2),
    "caption": Story(films.captions, 4),
    "summary": Story(films.summaries, 4),
    "sound": Story(films.sounds, 5, 2),
    "narrate": Story(films.narrations, 4, 2),
}
_FREE = Story(films.freely)
_ENCOUNTER = Story(pairs.encounters, 5, 2)


_PICTURES = tuple(story for story in STORIES.values() if story.frames == 1)
_FILMS = (*(story for story in STORIES.values() if story.frames > 1), _ENCOUNTER, _ENCOUNTER)


def any_story(dice: Dice, split: str, frames: int, things: int | None) -> Story:
    """A story for a scene without a task: a free one in a quarter of the scenes, else that of
    any task; in films three times in four one that only a film can tell."""
    if dice.chance(0.25):
        return _FREE
    fit = [
        story
        for story in _FILMS
        if story.frames <= frames and (things is None or story.least(split) <= things)
    ]
    if fit and dice.chance(0.75):
        return dice.pick(fit)
    return dice.pick([s for s in _PICTURES if things is None or s.least(split) <= things])
