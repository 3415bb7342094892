"""LLoVi with a captioner and a language model that are played."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.llm.notes import narration

QUESTION = "What happens?\nA. a dog runs\nB. a cat sleeps"
REQUEST = Request("", torch.zeros(0, 4))


def film(seconds: int, fps: int = 2) -> Clip:
    """Frames whose every pixel is the second they are shown in."""
    values = torch.arange(seconds * fps) // fps
    frames = values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3).contiguous()
    return Clip.from_frames(frames, fps=float(fps), origin="film.mp4")


class Played:
    """A `Caller` that says what a function of the call makes of it, and notes the calls."""

    def __init__(self, reply: Callable[[str], str] = lambda text: "B.", name: str = "self") -> None:
        self.name, self.reply = name, reply
        self.kept: dict[str, str] = {}
        self.said: list[list[dict[str, str]]] = []
        self.how: list[dict[str, Any]] = []
        self.shown: list[list[int]] = []  # for each caption the seconds of its frames
        self.batches: list[int] = []
        self.others: dict[str, Played] = {}
        self.reads = 10**9  # characters
        self.fails_at: int | None = None

    def say(self, messages: Any, **how: Any) -> str:
        self.said.append([*messages])
        self.how.append(how)
        return self.reply(messages[-1]["content"])

    def say_all(self, conversations: Sequence[Any], *, max_tokens: int) -> list[str]:
        if self.fails_at == len(self.batches):
            raise ConnectionError("gone")
        self.batches.append(len(conversations))
        captions = []
        for [message] in conversations:
            medium = message["content"][0]
            clip = medium.get("video") or medium["image"]
            self.shown.append(clip.frames()[:, 0, 0, 0].tolist())
            captions.append(f"second {self.shown[-1][0]} \n of it.")
        return captions

    def fits(self, messages: Any, **_: Any) -> bool:
        return sum(len(message["content"]) for message in messages) <= self.reads

    def other(self, model: str) -> Played:
        return self if model == "self" else self.others[model]

    def endpoint(self, url: str, model: str, key: str) -> Played:
        return self.others[f"{model} at {url} with {key}"]


def ask(played: Played, media: Any, question: str = QUESTION, **knobs: Any) -> str:
    system = build("llovi", knobs)
    media = media if isinstance(media, list) else [media]
    return system.answer(media, [{"role": "user", "content": question}], played)


def texts(played: Played) -> list[str]:
    """What the last message of each call of the language model said."""
    return [messages[-1]["content"] for messages in played.said]


# ---- the captions ------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "every"), [(7, 1), (7, 2), (7, 3), (6, 3), (1, 5)])
def test_every_kth_clip_is_captioned_and_keeps_its_number(seconds: int, every: int) -> None:
    played = Played()
    ask(played, film(seconds), prompt="standard", caption_every=every)
    [text] = texts(played)
    lines = re.findall(r"^(\d+): second (\d+) of it\.$", text, re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(0, seconds, every))
    assert len(lines) == math.ceil(seconds / every)
    assert all(number == second for number, second in lines)
    assert f"clips of {every} s" in text
    assert f"lasts {seconds} seconds" in text


def test_clips_are_as_long_as_the_rate_says() -> None:
    played = Played()
    ask(played, film(6), prompt="standard", fps=0.5, clip_frames=2)
    assert played.shown == [[0, 1], [2, 3], [4, 5]]
    assert "clips of 2 s" in texts(played)[0]
    frames = build("llovi", {"fps": 0.5, "clip_frames": 2}).select(film(6), REQUEST)
    assert frames == [0, 2, 4, 6, 8, 10]


def test_a_film_slower_than_the_rate_shows_a_frame_again() -> None:
    played = Played()
    ask(played, film(2, fps=1), prompt="standard", fps=2.0)
    assert played.shown == [[0], [1]]  # the second time it is known already
    assert re.findall(r"^\d+: second \d", texts(played)[0], re.MULTILINE) == [
        "0: second 0", "1: second 0", "2: second 1", "3: second 1",
    ]  # fmt: skip


def test_captions_are_made_in_batches() -> None:
    played = Played()
    ask(played, film(7), batch=3)
    assert played.batches == [3, 3, 1]


def test_lines_are_numbered_and_end_with_one_full_stop() -> None:
    assert narration([(0, "a dog"), (2, " a cat.\n It sleeps. ")]) == (
        "0: a dog.\n2: a cat. It sleeps."
    )


def test_captions_are_made_once() -> None:
    played = Played()
    first = ask(played, film(5), prompt="standard")
    assert ask(played, film(5), "Where is it?", prompt="cot") is not None
    assert played.batches == [5]
    assert first == "B."
    ask(played, film(6), prompt="standard")  # the same frames, and one more
    assert played.batches == [5, 1]


def test_another_captioner_makes_its_own() -> None:
    played, other = Played(), Played(name="org/other")
    played.others["org/other"] = other
    ask(played, film(3))
    ask(played, film(3), captioner="org/other")
    assert (played.batches, other.batches) == ([3], [3])
    assert other.said == []  # it captions and nothing else


def test_what_was_captioned_before_a_failure_is_not_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "captions.jsonl")
    for knobs in ({}, {"captions": path}):
        played = Played()
        played.fails_at = 2
        with pytest.raises(ConnectionError):
            ask(played, film(7), batch=2, **knobs)
        played.fails_at = None
        if knobs:
            played.kept.clear()  # as in another process
        ask(played, film(7), batch=2, **knobs)
        assert played.batches == [2, 2, 2, 1]
        assert played.shown == [[second] for second in range(7)]


# ---- the prompts -------------------------------------------------------------------------------

CALLS = {
    "standard": 1, "cot": 2, "plan": 2, "summary": 2, "summary-blind": 2, "summary-options": 2,
    "ground": 1,
}  # fmt: skip


@pytest.mark.parametrize("prompt", CALLS)
def test_each_prompt_has_its_number_of_calls_and_is_the_same_again(prompt: str) -> None:
    runs = []
    for _ in range(2):
        played = Played()
        ask(played, film(3), prompt=prompt)
        assert len(played.said) == CALLS[prompt]
        runs.append(played.said)
    assert runs[0] == runs[1]


def test_the_answer_is_the_last_call_and_greedy() -> None:
    for prompt in CALLS:
        played = Played()
        ask(played, film(3), prompt=prompt)
        *before, final = played.how
        assert not any(how.get("last") for how in before)
        assert final.get("last", False) == (prompt != "ground")  # that one is put into seconds
        assert final.get("temperature", 0.0) == 0.0


def test_a_summary_sees_the_question_without_its_options_and_the_answer_sees_no_caption() -> None:
    played = Played(lambda text: "a dog ran about" if "Sum up" in text else "A")
    assert ask(played, film(3), words=80, temperature=0.7) == "A"
    summing, answering = texts(played)
    assert "What happens?" in summing
    assert "80 words" in summing
    assert not re.search(r"a dog runs|a cat sleeps|letter", summing)
    assert re.search(r"^0: second 0", summing, re.MULTILINE)
    assert "a dog ran about" in answering
    assert "A. a dog runs\nB. a cat sleeps" in answering
    assert not re.search(r"second \d|clips of", answering)
    assert "lasts 3 seconds" in answering
    assert played.how[0] == {"max_tokens": 160, "temperature": 0.7}
    # two chats, each with the line that says who is asked
    assert [[turn["role"] for turn in said] for said in played.said] == [["system", "user"]] * 2


def test_a_blind_summary_sees_no_question_and_one_with_options_must_not_answer() -> None:
    played = Played()
    ask(played, film(3), prompt="summary-blind")
    assert not re.search(r"What happens|a dog runs", texts(played)[0])
    played = Played()
    ask(played, film(3), prompt="summary-options")
    assert "a dog runs" in texts(played)[0]
    assert "Do not answer" in texts(played)[0]


@pytest.mark.parametrize("prompt", ["cot", "plan"])
def test_thinking_first_stays_in_one_chat(prompt: str) -> None:
    played = Played(lambda text: "B" if "letter" in text else "thoughts")
    assert ask(played, film(3), prompt=prompt) == "B"
    first, second = played.said
    assert second[:2] == first
    assert second[2] == {"role": "assistant", "content": "thoughts"}
    assert "letter" not in first[-1]["content"]


def test_an_open_question_is_answered_in_words() -> None:
    played = Played()
    ask(played, film(3), "What happens?", prompt="standard")
    assert "letter" not in texts(played)[0]
    assert "few words" in texts(played)[0]


def test_grounding_tells_seconds() -> None:
    played = Played(lambda text: "[2, 5] and [7, 8].")
    assert ask(played, film(9), prompt="ground") == "2.0 to 5.0, 7.0 to 8.0"
    assert ask(played, film(9), prompt="ground", fps=2.0) == "1.0 to 2.5, 3.5 to 4.0"
    assert "a dog runs" not in texts(played)[0]
    played.reply = lambda text: "no idea"
    assert ask(played, film(9), prompt="ground") == "0.0 to 1.0"  # the official rule


def test_several_media_and_earlier_turns_stand_in_the_prompt() -> None:
    played = Played()
    picture = Clip.from_picture(torch.full((2, 2, 3), 9, dtype=torch.uint8))
    turns = [
        {"role": "user", "content": "Is it day?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Where is it?"},
    ]
    system = build("llovi", {"prompt": "standard"})
    system.answer([picture, film(2)], turns, played)
    assert played.said[0][1:3] == turns[:2]
    text = played.said[0][-1]["content"]
    assert "Picture 1:\n0: second 9 of it." in text
    assert "Film 2:\n0: second 0 of it.\n1: second 1 of it." in text
    assert "lasts" not in text


def test_a_conversation_without_media_is_asked_at_once() -> None:
    played = Played()
    ask(played, [], "Are you there?")
    assert len(played.said) == 1
    assert "Sum up" not in texts(played)[0]


# ---- who answers -------------------------------------------------------------------------------


def test_another_model_or_an_endpoint_reads_the_captions() -> None:
    played, small, far = Played(), Played(lambda _: "small"), Played(lambda _: "far")
    played.others = {"org/small": small, "gpt at http://host/v1 with MY_KEY": far}
    assert ask(played, film(2), llm="org/small") == "small"
    knobs = {"llm": "http://host/v1", "llm_name": "gpt", "key": "MY_KEY"}
    assert ask(played, film(2), **knobs) == "far"
    assert played.said == []
    assert played.batches == [2]


def test_an_endpoint_without_a_model_is_refused() -> None:
    with pytest.raises(UserError, match="what the model is called at the endpoint"):
        build("llovi", {"llm": "https://host/v1"})


def test_more_captions_than_the_model_reads_are_thinned_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    played = Played()
    ask(played, film(40), prompt="standard")
    whole = len(texts(played)[0])
    played.reads = whole // 2
    with caplog.at_level(logging.WARNING, "sparsight"):
        ask(played, film(40), prompt="standard")
    text = texts(played)[-1]
    numbers = [int(number) for number in re.findall(r"^(\d+): ", text, re.MULTILINE)]
    [step] = {b - a for a, b in pairwise(numbers)}
    assert step > 1
    assert f"clips of {step} s" in text
    assert caplog.messages == [
        f"40 notes are too many for the language model: one in {step} is used"
    ]


# ---- the claim, on a small scale ---------------------------------------------------------------


class Forgetful(Played):
    """Answers from the first lines of what it is told, however much that is; a summary it writes
    line by line, of those lines that share a word with the question."""

    LINES = 8

    def reply_to(self, text: str) -> str:
        lines = text.splitlines()
        asked = re.search(r"Which (\w+) is", text)
        assert asked is not None
        about = [line for line in lines if re.match(r"\d+: ", line) and asked[1] in line]
        if "Sum up" in text:
            return "\n".join(about) or "nothing of note"
        told = "\n".join(lines[: self.LINES])
        found = re.search(rf"the {asked[1]} (\w+) is", told)
        return found[1] if found else "unknown"


def played_film(fact_at: int, fact: str) -> Forgetful:
    """Captions of distractors, and one fact."""
    played = Forgetful()
    played.reply = played.reply_to
    captions = {second: f"the sky is {second} times gray" for second in range(40)}
    captions[fact_at] = fact

    def say_all(conversations: Sequence[Any], *, max_tokens: int) -> list[str]:
        seconds = [
            int(message["content"][0]["video"].frames()[0, 0, 0, 0]) for [message] in conversations
        ]
        return [captions[second] for second in seconds]

    played.say_all = say_all  # type: ignore[method-assign]
    return played


def test_a_summary_helps_a_reader_of_few_lines_and_fewer_captions_do_not() -> None:
    colors = ("red", "blue", "green")

    def score(**knobs: Any) -> int:
        right = 0
        for fact_at in range(40):
            color = colors[fact_at % 3]
            played = played_film(fact_at, f"the ring {color} is seen")
            right += ask(played, film(40), "Which ring is it?", **knobs) == color
        return right

    direct = score(prompt="standard")
    assert score(prompt="summary") == 40 > direct > 0
    counts = [score(prompt="summary", caption_every=every) for every in (1, 2, 4, 8)]
    assert counts == [40, 20, 10, 5]
