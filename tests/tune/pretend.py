"""A pretended model for tests of the search: it answers and costs by formula, at once.

Alone it asks plans (`Pretended`); around a tiny real checkpoint it is a whole VLM (`PretendedVLM`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sparsight.systems
from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.reply import Flops, Reply, Timing, Usage
from sparsight.tune.declared import space_for
from sparsight.tune.space import Space
from sparsight.vlm.pipeline import VLM

sparsight.systems.load()

DEPTH = 8
FRAMES = 8
TOKENS = 400  # of the plain model
TOWER = 0.4  # of its operations

#: Accuracy lost by keep=0.5, system by system: what makes one better than another.
LOSS = {
    "fastervlm": 0.005, "fastv": 0.008, "uniform": 0.03, "random": 0.05, "tome": 0.004,
    "gsearch": 0.01, "yopo": 0.02,
}  # fmt: skip


def items(
    count: int = 128,
    tasks: Sequence[str] = ("color", "move"),
    media: Callable[[int], Any] | None = None,
) -> list[Item]:
    """Questions with answers of their own, of which no guess knows more than one."""
    return [
        Item(
            id=f"{place:04d}",
            task=tasks[place % len(tasks)],
            media=(f"{place}.mp4",) if media is None else (media(place),),
            question=f"Say {place}",
            answer=str(place),
            score=lambda reply, answer=str(place): float(reply == answer),
        )
        for place in range(count)
    ]


def space(*names: str, kinds: Sequence[str] = ("film",)) -> Space:
    """The space of some systems on the pretended model."""
    return space_for(
        lambda plan: None,
        Plan(),
        depth=DEPTH,
        kinds=kinds,
        selection=f"uniform:{FRAMES}",
        names=names or ("fastervlm", "fastv", "uniform", "tome"),
    )


@dataclass
class Pretended:
    """Asks the pretended model; notes what it was asked.

    broken    the name of a system that fails on every item
    refused   the name of a system that does not run
    """

    broken: str = ""
    refused: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, plan: Plan, wanted: Sequence[Item]) -> list[Record]:
        names = {system.system_name for system in plan.systems}
        if self.refused in names:
            raise UserError(f"{self.refused} does not run here")
        text = plan.to_yaml()
        self.asked += [(text, item.id) for item in wanted]
        accuracy, tower, tokens = truth(plan)
        return [self._record(item, text, names, accuracy, tower, tokens) for item in wanted]

    def _record(
        self, item: Item, text: str, names: set[str], accuracy: float, tower: float, tokens: float
    ) -> Record:
        if self.broken in names:
            return Record(item.id, item.task, error="it broke")
        right = answers(item.question, text, accuracy)
        return Record(
            item.id,
            item.task,
            reply=item.answer if right else "no idea",
            score=float(right),
            right=right,
            visual_seen=TOKENS,
            visual_kept=round(TOKENS * tokens),
            visual_mean=TOKENS * tokens,
            flops={"tower": 1e9 * TOWER * tower, "prefill": 1e9 * (1 - TOWER) * tokens},
            kv_bytes=round(1e6 * tokens),
            first_token=0.5 * (TOWER * tower + (1 - TOWER) * tokens),
            total=1.0,
        )


def answers(question: str, plan: str, accuracy: float) -> bool:
    """Whether a plan answers a question rightly: questions are easy or hard for all plans alike;
    a little luck is the plan's own."""
    hard = random.Random(question).random()
    return hard + random.Random(question + plan).uniform(-0.03, 0.03) < accuracy


class PretendedVLM:
    """A tiny checkpoint that answers "Say 7" with "7", as often and at such a cost as the
    pretended model would.

    left    questions it answers before Ctrl-C is pressed; shared by all plans on it
    """

    def __init__(self, real: VLM, left: list[int] | None = None) -> None:
        self.real, self.left = real, left if left is not None else [1_000_000]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def remembering(self, most: int | None) -> PretendedVLM:
        return self  # encodes nothing

    def planned(self, plan: Plan) -> PretendedVLM:
        return PretendedVLM(self.real.planned(plan), self.left)

    def chat_batch(self, conversations: Any, **options: Any) -> list[Reply]:
        text = self.plan.to_yaml()
        accuracy, tower, tokens = truth(self.plan)
        replies = []
        for [message] in conversations:
            if self.left[0] == 0:
                raise KeyboardInterrupt
            self.left[0] -= 1
            question = next(part["text"] for part in message["content"] if part["type"] == "text")
            right = answers(question, text, accuracy)
            seconds = 0.5 * (TOWER * tower + (1 - TOWER) * tokens)
            replies.append(
                Reply(
                    text=question.split()[-1] if right else "no idea",
                    tokens=(1, 2),
                    finish="stop",
                    usage=Usage(TOKENS, round(TOKENS * tokens), TOKENS * tokens, TOKENS + 20, 2),
                    timing=Timing({"prefill": seconds}, (), seconds, seconds),
                    kv_bytes=round(1e6 * tokens),
                    flops=Flops(1e9 * TOWER * tower, 1e9 * (1 - TOWER) * tokens, 0.0),
                )
            )
        return replies


def truth(plan: Plan) -> tuple[float, float, float]:
    """What a plan does: accuracy, and the shares of the tower's work and of the tokens."""
    accuracy, tower, tokens = 0.9, 1.0, 1.0
    if plan.frames is not None:
        share = int(plan.frames.partition(":")[2]) / FRAMES
        tower, tokens = share, share
        accuracy -= 0.02 * (1 / share - 1)
    for system in plan.systems:
        name = system.system_name
        if name == "tome":
            tower *= 1 - 0.02 * system.r
            accuracy -= LOSS[name] * system.r / 8
            continue
        keep = kept(system)
        accuracy -= LOSS[name] * (1 / keep - 1)
        layer = getattr(system, "layer", 0)
        tokens *= (layer + (DEPTH - layer) * keep) / DEPTH
    return accuracy, tower, tokens


def kept(system: Any) -> float:
    """The share of the tokens that a system keeps."""
    if getattr(system, "schedule", ()):
        return sum(system.schedule) / len(system.schedule)
    return getattr(system, "through", 0) or system.keep


def cost(plan: Plan) -> float:
    """A plan's operations as a share of the plain model's."""
    _, tower, tokens = truth(plan)
    return TOWER * tower + (1 - TOWER) * tokens
