"""Items: what is made on demand, and when two of one id are not the same question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench.fakes import exactly, item


def test_media_are_made_when_they_are_asked_for():
    made = []

    def paint() -> str:
        made.append("clip")
        return "clip"

    asked = item("a", media=("film.mp4", paint))
    assert made == []
    assert asked.sources() == ["film.mp4", "clip"]
    assert made == ["clip"]


def test_a_reply_is_right_from_the_passing_score_on():
    half = item("a", score=lambda reply: 0.5)
    assert not half.right("anything")
    assert replace(half, passes=0.5).right("anything")


@pytest.mark.parametrize(
    "change",
    [{"question": "other?"}, {"answer": "no"}, {"task": "shape"}, {"frames": "all"}, {"id": "b"}],
)
def test_what_is_asked_shows_in_the_sign(change: dict[str, Any]):
    plain = item("a")
    assert replace(plain, score=exactly("no")).sign == plain.sign  # replies are scored anew
    assert replace(plain, **change).sign != plain.sign


def test_another_file_under_the_same_name_shows_in_the_sign(tmp_path: Path):
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "cat.png"
    path.write_bytes(b"cat")
    before = item("a", media=(str(path),)).sign
    moved = path.parent.rename(tmp_path / "there") / "cat.png"
    assert item("a", media=(str(moved),)).sign == before
    moved.write_bytes(b"another")
    assert item("a", media=(str(moved),)).sign != before
