"""What systems tell of media stands in the prompt where it belongs."""

from __future__ import annotations

from sparsight.llm.asking import film_in_words
from sparsight.vlm.messages import Conversation, Turn
from sparsight.vlm.pipeline import VLM
from tests.vlm.tiny import QUESTION, movie


def test_what_is_told_of_a_medium_stands_before_the_words_behind_it() -> None:
    turns = (Turn("system", ("Be brief.",)), Turn("user", ("First", 0, 1, "Second", 2)))
    conversation = Conversation(turns, ("a", "b", "c"))
    found = conversation.telling(["of a", "of b", "of c"])
    assert found.turns[0] == turns[0]
    assert found.turns[1].parts == ("First", 0, 1, "of a\nof b\nSecond", 2, "of c")
    assert found.media == conversation.media


def test_where_nothing_is_told_nothing_changes() -> None:
    conversation = Conversation((Turn("user", (0, "What?")),), ("a",))
    assert conversation.telling([""]) is conversation
    two = Conversation((Turn("user", (0, 1, "What?")),), ("a", "b"))
    assert two.telling(["", "of b"]).turns[0].parts == (0, 1, "of b\nWhat?")


def test_a_system_that_tells_asks_what_a_user_would_with_these_words(vlm: VLM) -> None:
    even = {"keep": 1.0, "frames": 3, "exponent": 0.0, "names": "none"}
    film = movie()
    reply = vlm.using("quota", times=True, **even).ask(film, QUESTION, max_tokens=4)
    frames = list(reply.maps[0].frames)
    told = film_in_words(film.duration, film.timestamps[frames].tolist())
    by_hand = vlm.using("quota", **even).ask(film, f"{told}\n{QUESTION}", max_tokens=4)
    assert (reply.text, reply.usage.prompt) == (by_hand.text, by_hand.usage.prompt)
    plain = vlm.using("quota", **even).ask(film, QUESTION, max_tokens=4)
    assert plain.usage.prompt < reply.usage.prompt
