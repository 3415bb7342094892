"""A model that answers at once, and questions to ask it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.core.plan import Plan
from sparsight.core.reply import Flops, Reply, Timing, Usage


class Weights(nn.Module):
    """As much of a model as a fingerprint needs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(12.0))
        self.dtype, self.device = torch.float32, torch.device("cpu")


class FakeVLM:
    """Answers each question with `answers[question]`; an exception there is raised.

    `asked` are the questions of each call, with the frame selection.
    """

    def __init__(self, answers: dict[str, Any] | None = None, plan: Plan | None = None) -> None:
        self.answers = answers or {}
        self.plan = plan or Plan()
        self.family = SimpleNamespace(model=Weights())
        self.asked: list[tuple[list[str], str | None]] = []

    def chat_batch(
        self, conversations: Any, *, frames: str | None, max_tokens: int, temperature: float
    ) -> list[Reply]:
        assert temperature == 0
        questions = [talk[0]["content"][-1]["text"] for talk in conversations]
        self.asked.append((questions, frames))
        found = [self.answers.get(question, "yes") for question in questions]
        for answer in found:
            if isinstance(answer, BaseException):
                raise answer
        return [reply(answer, len(questions)) for answer in found]


def reply(text: str, together: int = 1) -> Reply:
    """An answer of a batch of so many, whose time and cache are those of the whole."""
    return Reply(
        text=text,
        tokens=(1, 2),
        finish="stop",
        usage=Usage(visual_seen=64, visual_kept=32, visual_mean=24.0, prompt=40, answer=2),
        timing=Timing({"encode": 0.2, "prefill": 0.4}, (0.1,), 0.7, 0.8, own=0.04),
        kv_bytes=1000 * together,
        flops=Flops(tower=4e9, prefill=2e9, decode=1e9),
    )


def item(name: str, **other: Any) -> Item:
    """A question "name?" whose answer is "yes"; its medium is never looked at."""
    values: dict[str, Any] = {
        "id": name,
        "task": "color",
        "media": (name,),
        "question": f"{name}?",
        "answer": "yes",
        "score": exactly("yes"),
    }
    return Item(**{**values, **other})


def exactly(answer: str) -> Callable[[str], float]:
    return lambda text: float(text == answer)


def record(name: str, right: bool = True, **other: Any) -> Record:
    """What came of an item."""
    values: dict[str, Any] = {
        "item": name,
        "task": "color",
        "reply": "yes" if right else "no",
        "score": float(right),
        "right": right,
        "visual_seen": 100,
        "visual_kept": 100,
        "visual_mean": 100.0,
        "flops": {"tower": 4.0, "prefill": 2.0, "decode": 1.0},
        "stages": {"encode": 0.2},
    }
    return Record(**{**values, **other})
