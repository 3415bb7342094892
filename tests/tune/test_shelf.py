"""Media made on demand are kept while there is room."""

from __future__ import annotations

import torch

from sparsight.bench.item import Item
from sparsight.core.clip import Clip
from sparsight.tune.shelf import Remembered, Shelf, remembered


def film(frames: int) -> Clip:
    return Clip.from_frames(torch.zeros(frames, 4, 6, 3, dtype=torch.uint8), fps=1.0)


def test_a_medium_made_on_demand_is_made_once_while_there_is_room():
    made = []

    def make() -> Clip:
        made.append(1)
        return film(2)

    shelf = Shelf(room=2 * 2 * 4 * 6 * 3)
    media = [Remembered(make, shelf) for _ in range(3)]
    for _ in range(2):
        assert [len(medium()) for medium in media] == [2, 2, 2]
    assert len(made) == 4  # the third found no room and was made twice


def test_items_keep_what_is_made_and_leave_files_alone():
    made = []

    def make() -> Clip:
        made.append(1)
        return film(1)

    item = Item("a", "t", (make, "film.mp4"), "?", "yes", float)
    [kept] = remembered([item], room=1000)
    again = remembered([kept], room=1000)[0]
    assert again.media == kept.media  # not wrapped twice
    assert [again.sources()[1] for _ in range(2)] == ["film.mp4"] * 2
    assert len(made) == 1
