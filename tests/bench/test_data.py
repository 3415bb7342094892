"""The user's own questions: what is read, and what is named and left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sparsight.bench.data import read_items
from sparsight.core.errors import UserError

CAT = {"image": "cat.png", "question": "What is it?", "answer": "a cat"}


@pytest.fixture
def lines(tmp_path: Path):
    """Writes records, or lines as they are, to a file beside cat.png and door.mp4."""
    for name in ("cat.png", "door.mp4"):
        (tmp_path / name).write_bytes(b"any")

    def write(*records: Any, name: str = "my.jsonl") -> Path:
        path = tmp_path / name
        texts = [item if isinstance(item, str) else json.dumps(item) for item in records]
        path.write_text("\n".join(texts) + "\n")
        return path

    return write


def test_a_plain_question_becomes_an_item(lines):
    [item], skipped = read_items(lines({**CAT, "id": 7, "task": "pets", "frames": "uniform:4"}))
    assert skipped == []
    assert (item.id, item.task, item.frames) == ("7", "pets", "uniform:4")
    assert item.question == "What is it?"
    assert item.answer == "a cat"
    assert [Path(path).name for path in item.sources()] == ["cat.png"]
    assert Path(item.sources()[0]).exists()
    assert item.right("Cat.")
    assert not item.right("a dog")


def test_media_may_be_several_and_urls(lines):
    many = {**CAT, "image": None, "images": ["cat.png", "https://example.org/a.png"]}
    film = {**CAT, "image": None, "video": "door.mp4"}
    (several, film), _ = read_items(lines(many, film))
    assert several.sources()[1] == "https://example.org/a.png"
    assert Path(film.sources()[0]).name == "door.mp4"


def test_what_is_not_said_has_a_name_of_its_own(lines):
    items, _ = read_items(lines(CAT, CAT, {**CAT, "id": "x"}, {**CAT, "id": "x"}))
    assert [item.id for item in items] == ["line-1", "line-2", "x", "x#2"]
    assert {item.task for item in items} == {"my"}


def test_options_are_written_behind_a_question_that_does_not_name_them(lines):
    record = {**CAT, "answer": "B", "choices": ["dog", "cat"]}
    named = {**record, "question": "Is it a dog or a cat?"}
    (item, told), _ = read_items(lines(record, named))
    assert item.question.splitlines()[1:3] == ["A. dog", "B. cat"]
    assert told.question == "Is it a dog or a cat?"
    for each in (item, told):
        assert each.right("B")
        assert each.right("a cat")
        assert not each.right("dog")


def test_numbers_and_several_answers_are_scored_as_such(lines):
    (four, cat), _ = read_items(lines({**CAT, "answer": 4}, {**CAT, "answer": ["cat", "kitten"]}))
    assert four.right("There are four.")
    assert not four.right("3 or 4")
    assert cat.right("A kitten")


def test_the_first_question_of_a_conversation_is_asked(lines):
    talk = [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "And its color?"},
        {"from": "gpt", "value": "red"},
    ]
    [item], _ = read_items(lines({"id": "7", "image": "cat.png", "conversations": talk}))
    assert item.question == "What is it?"
    assert item.right("cat")
    assert not item.right("red")


def test_a_record_of_the_world_is_scored_as_it_says(lines):
    talk = [
        {"from": "human", "value": "<image>\nWhen?"},
        {"from": "gpt", "value": "2.0 to 4.0"},
    ]
    record = {
        "id": "w", "video": "door.mp4", "conversations": talk, "task": "when",
        "scorer": "interval", "choices": ["never", "always"], "slack": 0.5,
    }  # fmt: skip
    given = []

    def interval(*arguments: Any) -> float:
        given.append(arguments)
        return 0.6

    [item], _ = read_items(lines(record), scorers={"interval": interval})
    assert item.question == "When?"  # its choices are answers there can be, not options
    assert item.right("2 to 4")
    assert given == [("2 to 4", "2.0 to 4.0", ["never", "always"], 0.5)]
    assert item.task == "when"
    of_turns = {**record, "turns": [{"scorer": "interval", "slack": 1.0, "task": "state"}]}
    [item], _ = read_items(lines(of_turns), scorers={"interval": interval})
    assert item.task == "state"


def test_what_cannot_be_used_is_named_with_its_line(lines):
    turn = {"from": "human", "value": "<image>"}
    path = lines(
        CAT,
        "{broken",
        "",
        "[1]",
        {**CAT, "image": "gone.png"},
        {**CAT, "answer": ""},
        {**CAT, "answer": []},
        {"question": "Why?", "answer": "so"},
        {**CAT, "question": " "},
        {**CAT, "image": 3},
        {**CAT, "choices": "red"},
        {**CAT, "choices": ["dog", "fox"]},
        {**CAT, "frames": "often"},
        {"image": "cat.png", "conversations": [turn]},
        {"image": "cat.png", "conversations": [{**turn, "value": "Why?"}]},
        {**CAT, "scorer": "box"},
    )
    items, skipped = read_items(path)
    assert [item.id for item in items] == ["line-1"]
    told = {item.line: item.reason for item in skipped}
    assert told == {
        2: "it is not valid JSON",
        4: "it is not an object",
        5: "gone.png: there is no such file",
        6: "it has no answer",
        7: "it has no answer",
        8: "it has no image and no video",
        9: "it has no question",
        10: "image must be a path or a list of paths, not 3",
        11: "choices must be a list of texts",
        12: "the answer 'a cat' is neither an option nor the letter of one",
        13: told[13],
        14: "its conversation has no question",
        15: "its conversation has no answer",
        16: "unknown scorer 'box' (known: choice, words)",
    }
    assert "often" in told[13]
    assert str(skipped[0]) == "line 2: it is not valid JSON"


def test_no_more_is_read_than_is_wanted(lines):
    items, skipped = read_items(lines("{broken", CAT, CAT, "{broken", CAT), 2)
    assert len(items) == 2
    assert [item.line for item in skipped] == [1]


def test_a_list_in_one_json_file_is_read_too(lines):
    items, skipped = read_items(lines(json.dumps([CAT, {}]), name="my.json"))
    assert (len(items), len(skipped)) == (1, 1)
    with pytest.raises(UserError, match="must hold a list"):
        read_items(lines("{}", name="my.json"))
    with pytest.raises(UserError, match=r"one object a line goes in \.jsonl"):
        read_items(lines("{}\n{}", name="my.json"))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "it is empty"),
        (["{broken", {}], r"none of its 2 lines can be used \(line 1: it is not valid JSON\)"),
    ],
)
def test_nothing_usable_is_refused(lines, records: list[Any], words: str):
    with pytest.raises(UserError, match=words):
        read_items(lines(*records))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.jsonl cannot be read: No such file"):
        read_items(tmp_path / "gone.jsonl")
