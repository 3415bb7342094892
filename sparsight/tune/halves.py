"""Items for a search: what they hold, and which of them it never sees."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from sparsight.bench.item import Item
from sparsight.core.clip import Clip
from sparsight.core.errors import UserError

LEAST = 32  # items that a search needs, held-out ones among them
_LOOKED_AT = 12  # items whose media are opened to see what they are


class Halves(NamedTuple):
    """Items to tune on and items held out, each in the order in which they are asked."""

    tune: list[Item]
    held: list[Item]


def halves(items: Sequence[Item], most: int, seed: int) -> Halves:
    """Draw about `most` items, as many of each task as can be, and cut every task in two.

    Questions about the same media go into the same half: what was tuned on a picture has seen it.
    The order goes through the tasks in turn, so that the first items of a half are of all tasks.
    Raises `UserError` for too few items.
    """
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[_shown(item)].append(item)
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    parts: tuple[dict[str, list[Item]], ...] = (defaultdict(list), defaultdict(list))
    sizes = [0, 0]
    for group in shuffled:
        task = Counter(item.task for item in group).most_common(1)[0][0]
        side = min((0, 1), key=lambda side: (len(parts[side][task]), sizes[side], side))
        for item in group:
            parts[side][item.task].append(item)
        sizes[side] += len(group)
    cut = Halves(*(_in_turn(list(part.values()))[: most // 2] for part in parts))
    if min(map(len, cut)) < LEAST // 2:
        raise UserError(
            f"{len(cut.tune)} questions to tune on and {len(cut.held)} held out are too few: give "
            f"{LEAST} or more, about several pictures or films"
        )
    return cut


def kinds_of(items: Sequence[Item], load: Callable[[Any], Clip]) -> tuple[set[str], int]:
    """What some items spread over all of them hold ("picture", "film"), and the most frames.

    An item whose media cannot be read is passed over: it fails, and is counted, when it is asked.
    Raises `UserError` where none can be read.
    """
    kinds: set[str] = set()
    frames, reason = 1, "there is none"
    for item in items[:: max(1, len(items) // _LOOKED_AT)]:
        try:
            clips = [load(source) for source in item.sources()]
        except (UserError, OSError) as error:
            reason = str(error)
            continue
        kinds |= {clip.kind for clip in clips}
        frames = max([frames, *map(len, clips)])
    if not kinds:
        raise UserError(f"no medium of the questions can be read: {reason}")
    return kinds, frames


def selection_of(items: Sequence[Item], default: str, frames: int) -> str:
    """Which frames are looked at where a plan says nothing: what all items say, else the model's
    default. "all" is said by the most `frames` there are."""
    said = {item.frames for item in items}
    text = (said.pop() if len(said) == 1 else None) or default
    return f"uniform:{frames}" if text == "all" else text


def _shown(item: Item) -> Hashable:
    """Equal for items about the same media."""
    return tuple(
        str(medium) if isinstance(medium, (str, Path)) else id(medium) for medium in item.media
    )


def _in_turn(lists: Sequence[Sequence[Item]]) -> list[Item]:
    return [item for row in zip_longest(*lists) for item in row if item is not None]
