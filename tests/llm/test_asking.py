from __future__ import annotations

import pytest

from sparsight.llm.asking import (
    NAMES,
    asking_for_a_list,
    asking_for_objects,
    is_there,
    key_and_cue_objects,
    listed_objects,
    plain_nouns,
    yes_or_no,
)


def test_questions_are_asked_as_they_are() -> None:
    for ask in (asking_for_objects, asking_for_a_list, yes_or_no):
        assert "Where is {the} cat?" in ask("Where is {the} cat?")
    assert "A. yes, B. no" in yes_or_no("Is it there?")


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("red cup", "Is there a red cup?"),
        ("orange", "Is there an orange?"),
        ("cups", "Is there cups?"),
        ("the man in black", "Is there the man in black?"),
        ("theatre", "Is there a theatre?"),
    ],
)
def test_a_thing_is_asked_for_with_its_article(name: str, question: str) -> None:
    assert is_there(name) == question


@pytest.mark.parametrize(
    "reply",
    [
        "red cup, man with a hat\nkitchen, table",
        "1. Key objects: Red cup, Man with a hat.\n2. Cue objects: kitchen, table.",
        "\nKey objects: red cup, man with a hat\n\n cue objects - kitchen, table, red cup ",
    ],
)
def test_two_lines_are_read_whatever_stands_before_them(reply: str) -> None:
    assert key_and_cue_objects(reply) == (["red cup", "man with a hat"], ["kitchen", "table"])


@pytest.mark.parametrize(
    "reply", ["", "a cat", "a cat\na dog\na cow", "Key objects:\ntable", ",\n,"]
)
def test_another_answer_names_nothing(reply: str) -> None:
    assert key_and_cue_objects(reply) is None


def test_no_answer_makes_more_questions_than_can_be_asked() -> None:
    reply = ", ".join(f"thing {place}" for place in range(99))
    read = key_and_cue_objects(f"{reply}\n{reply}")
    assert read is not None
    assert [len(names) for names in read] == [NAMES, 0]
    assert len(listed_objects(f"step 1: yes\nstep 3: {reply.split(', ')}")) == NAMES


@pytest.mark.parametrize(
    ("question", "nouns"),
    [
        ("Where is the red cat, on the table?", ["red cat", "table"]),
        (
            "What color is the woman's hat? A. Blue B. Dark red C. 3",
            ["woman's hat", "Blue", "Dark red"],
        ),
        ("How many times does the bell ring at the end of the video?", ["bell ring"]),
        ("what is in it ?", []),
        ("", []),
        ("Which T-shirt is T-shirt 7?", ["T-shirt"]),
        ("When does the yellow letter Z appear?", ["yellow letter Z"]),
    ],
)
def test_the_nouns_of_a_question_are_found_by_a_plain_rule(question: str, nouns: list[str]) -> None:
    assert plain_nouns(question) == nouns


def test_a_list_is_read_from_the_third_step() -> None:
    reply = 'Step 1: Yes\nStep 2: ["Cup", "end"]\nStep 3: ["Cup", "Green shelf"]'
    assert listed_objects(reply) == ["cup", "green shelf"]


@pytest.mark.parametrize(
    "reply",
    [
        "Step 1: no",
        'Step 1: no\nStep 3: ["cup"]',
        "Step 1: yes\nStep 2: ['cup']\nStep 3: null",
        "Step 1: yes\nStep 3: [cup, table]",
        "Step 1: yes\nStep 3: [__import__('os').getcwd()]",
        'Step 1: yes\nStep 3: ["cup"',
        "Step 1: yes\nStep 3: [1, None, '']",
        'step 3: ["cup"]',
        "",
        "Step 1: yes\nStep 3: [" + "(" * 10_000 + "]",
    ],
)
def test_a_list_that_cannot_be_read_is_empty_and_never_raises(reply: str) -> None:
    assert listed_objects(reply) == []
