"""Rooms to files: what is in them is what was painted, and a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sparsight.core.errors import UserError
from sparsight.world.folder import Made
from sparsight.world.space import RoomRequest, make_rooms, paint_room

REQUEST = RoomRequest("test", None, count=3, views=2, side=64, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rooms")
    assert make_rooms(REQUEST, out, depth=True).media == 3
    return out


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "conversations.jsonl").read_text().splitlines()]


def test_views_and_depths_are_those_of_the_room(folder: Path) -> None:
    by_room = {record["images"][0]: record for record in records(folder)}
    for record, (room, _) in zip(by_room.values(), REQUEST.asked(), strict=True):
        painted = paint_room(room, 64)
        for place, (view, depth) in enumerate(zip(record["images"], record["depth"], strict=True)):
            assert np.array_equal(Image.open(folder / view), painted.frames[place])
            metres = np.asarray(Image.open(folder / depth)) / 1000
            assert np.abs(metres - painted.depth[place].numpy()).max() <= 0.00051
        assert np.allclose(record["truth"]["intrinsics"], painted.intrinsics)
        assert np.allclose(record["truth"]["extrinsics"], painted.extrinsics)
        assert np.allclose([thing["box"] for thing in record["truth"]["things"]], painted.boxes)


def test_a_record_asks_one_question_about_all_views(folder: Path) -> None:
    found = [
        (question.task, question.text, question.answer)
        for _, questions in REQUEST.asked()
        for question in questions
    ]
    for record, (task, text, answer) in zip(records(folder), found, strict=True):
        human, model = record["conversations"]
        assert (record["task"], model["value"]) == (task, answer)
        assert human["value"] == f"<image>\n<image>\n{text}"


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    make_rooms(REQUEST, tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    lost = sorted(whole)[1]
    lost.unlink()
    (tmp_path / "conversations.jsonl").unlink()
    assert make_rooms(REQUEST, tmp_path) == Made(3, 2, len(records(tmp_path)))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == whole


def test_films_and_rooms_do_not_mix(folder: Path) -> None:
    from sparsight.world.request import Request
    from sparsight.world.write import make

    with pytest.raises(UserError, match="give a new"):
        make(Request("test", "color", count=1, side=64), folder)
    with pytest.raises(UserError, match="made with side=64, not 96"):
        make_rooms(RoomRequest("test", None, count=3, views=2, side=96, seed=3), folder, depth=True)
