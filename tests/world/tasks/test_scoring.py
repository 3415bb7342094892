"""Scorers: what counts as the answer, and that no reply breaks them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.world.scene import COLORS, DIRECTIONS, LETTERS
from sparsight.world.tasks.question import Question, right, score

MOVE = Question("move", "?", "up-left", "direction", tuple(DIRECTIONS))
COLOR = Question("color", "?", "red", "words", tuple(COLORS))
COUNT = Question("count", "?", "3", "words", tuple("0123456"))
THERE = Question("exists", "?", "yes", "words", ("yes", "no"))
LETTER = Question("needle", "?", "K", "words", LETTERS)
FIRST = Question("order", "?", "red ring", "words", ("red ring", "blue star"))
PHRASE = Question("region", "?", "red letter A")
THREE = Question("order", "?", "ring, red star, letter A", "sequence")
SIGN = Question("read", "?", "KA7", "text")
WHEN = Question("when", "?", "2.0 to 4.0", "interval")
PARTS = Question("summary", "?", "0.5 to 1.5, 3.0 to 4.0", "segments")
BOX = Question("box", "?", "[10, 20, 30, 40]", "box")
FAR = Question("distance", "?", "2.0", "metres")
TOLD = Question(
    "caption", "?", "0.5 to 1.5: the red ring moves left; 2.0: the star changes to blue", "caption",
    slack=0.5,
)  # fmt: skip
CHOICE = Question("color", "?", "B", "choice", ("blue", "red ring", "green"))
LETTERED = Question("needle", "?", "B", "choice", ("K", "A", "B"))
ALL = (
    MOVE, COLOR, COUNT, THERE, LETTER, FIRST, PHRASE, THREE, SIGN, WHEN, PARTS, BOX, FAR, TOLD,
    CHOICE, LETTERED,
)  # fmt: skip


@pytest.mark.parametrize("question", ALL, ids=lambda q: f"{q.scorer}-{q.answer}")
def test_the_answer_itself_is_right_however_it_is_dressed(question: Question):
    for reply in (
        question.answer,
        f" {question.answer}. ",
        f"({question.answer})",
        question.answer.upper() if question.scorer != "caption" else question.answer,
        question.answer.lower(),
    ):
        assert score(question, reply) == 1, reply


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (COLOR, "The ring is red."),
        (COLOR, "Red!"),
        (COUNT, "three"),
        (COUNT, "There are three of them."),
        (THERE, "Yes, there is a red ring."),
        (LETTER, "the letter K"),
        (LETTER, "It is a K."),
        (FIRST, "The red ring."),
        (FIRST, "the red ring is first"),
        (PHRASE, "a red letter A"),
        (MOVE, "up left"),
        (MOVE, "upward and to the left"),
        (MOVE, "towards the top left"),
        (MOVE, "upper-left"),
        (THREE, "first the ring, then the red star, then the letter A"),
        (SIGN, "The sign says KA7."),
        (SIGN, '"k a 7"'),
        (WHEN, "from 2 to 4 seconds"),
        (WHEN, "2.0-4.0"),
        (WHEN, "2.0 s \u2013 4.0 s"),
        (WHEN, "[2.0, 4.0]"),
        (PARTS, "[0.5, 1.5] and [3, 4]"),
        (PARTS, "3.0 to 4.0; 0.5-1.5"),
        (BOX, "10 20 30 40"),
        (BOX, "x0=10.0, y0=20, 30, 40"),
        (FAR, "about 2.1 metres"),
        (TOLD, "2.0: The star changes to blue.\n0.5-1.5 s: red ring moves left"),
        (TOLD, "at 2.5: the star changes to blue; from 0.5 to 1.0: the red ring moves left"),
        (CHOICE, "b"),
        (CHOICE, "B."),
        (CHOICE, "(B) red ring"),
        (CHOICE, "B: a red ring"),
        (CHOICE, "The answer is B."),
        (CHOICE, "Option B"),
        (CHOICE, "the red ring"),
        (CHOICE, "I think it is B"),
        (LETTERED, "B. A"),
    ],
)
def test_these_replies_are_right(question: Question, reply: str):
    assert score(question, reply) == 1


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (COLOR, "blue"),
        (COLOR, "red or blue"),
        (COLOR, "reddish"),
        (COLOR, ""),
        (COUNT, "13"),
        (COUNT, "3 or 4"),
        (THERE, "yes and no"),
        (THERE, "maybe"),
        (LETTER, "K or A?"),
        (FIRST, "the ring"),
        (FIRST, "the red ring, then the blue star"),
        (PHRASE, "red letter K"),
        (MOVE, "left"),
        (MOVE, "up-right"),
        (MOVE, "up, down and left"),
        (THREE, "red star, ring, letter A"),
        (THREE, "ring, red star"),
        (SIGN, "KA"),
        (SIGN, "KA77"),
        (WHEN, "4.0 to 2.0"),
        (WHEN, "3"),
        (WHEN, "1 to 2 or 2 to 4"),
        (PARTS, "0.5 to 1.5 and 3.0"),
        (BOX, "[30, 40, 10, 20]"),
        (BOX, "[10, 20, 30]"),
        (FAR, "2.3"),
        (TOLD, "the red ring moves left; the star changes to blue"),
        (TOLD, "3.5 to 4.0: the red ring moves left; 4.0: the star changes to blue"),
        (CHOICE, "A"),
        (CHOICE, "C. red ring"),
        (CHOICE, "A. red ring"),
        (CHOICE, "A or B"),
        (CHOICE, "D"),
        (LETTERED, "C"),
    ],
)
def test_these_replies_are_wrong(question: Question, reply: str):
    assert score(question, reply) == 0


def test_intervals_score_their_overlap():
    assert score(WHEN, "3.0 to 5.0") == pytest.approx(1 / 3)
    assert score(WHEN, "2.0 to 3.0") == pytest.approx(1 / 2)
    assert right(WHEN, "2.0 to 3.0")
    assert not right(WHEN, "3.0 to 5.0")


def test_boxes_score_their_overlap():
    assert score(BOX, "[10, 20, 30, 60]") == pytest.approx(1 / 2)
    assert score(BOX, "[50, 50, 60, 60]") == 0


def test_segments_score_f1_over_those_that_half_overlap():
    assert score(PARTS, "0.5 to 1.5") == pytest.approx(2 / 3)
    assert score(PARTS, "0.5 to 1.5, 2.0 to 2.5, 6.0 to 7.0") == pytest.approx(2 / 5)
    assert score(PARTS, "0.5 to 4.0") == 0


def test_a_segment_said_twice_counts_once():
    assert score(PARTS, "0.5 to 1.5, 0.5 to 1.5") == pytest.approx(1 / 2)


def test_captions_score_f1_over_events():
    assert score(TOLD, "0.5 to 1.5: the red ring moves left") == pytest.approx(2 / 3)
    assert score(TOLD, "0.5 to 1.5: the red ring moves right; 2.0: the star changes to blue") == 0.5


@settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from(ALL))
def test_no_reply_breaks_a_scorer(reply: str, question: Question):
    assert 0 <= score(question, reply) <= 1


PIECES = (
    "A", "b.", " ", "[", "]", ",", "-", "to", ";", ":", "\n", "red ring", "up", "left", "K", "0",
    "1.5", ".5", "9" * 400, "1e9", "nan", "inf", "\u0663", "\u0130", "the", "no",
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from(ALL))
def test_no_reply_made_of_their_own_words_breaks_a_scorer(reply: str, question: Question):
    assert 0 <= score(question, reply) <= 1


def test_endless_replies_are_scored_at_once():
    for question in ALL:
        assert 0 <= score(question, "( [ 1.0 a " * 100_000) <= 1
