"""Pictures to ask the tiny checkpoint about."""

from __future__ import annotations

from typing import Any

from sparsight.bench.item import Item
from tests.bench.fakes import item
from tests.vlm.tiny import movie, picture

SQUARE = picture(28, 28, 3)


def pictures(count: int, shape: Any = SQUARE) -> list[Item]:
    """Questions of different length about one picture; the answer is none of the model's."""
    return [
        item(f"p{place}", media=(shape,), question="what is it ? " * (place % 3 + 1))
        for place in range(count)
    ]


def films(count: int) -> list[Item]:
    """Questions about films of two to five frames."""
    return [
        item(f"f{place}", task="move", media=(movie(2 + place % 4, place),), frames="all")
        for place in range(count)
    ]
