"""Examining a model: exam items in, outcomes out, with what each answer cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sparsight.core.clip import Clip
from sparsight.world.exam import Item
from sparsight.world.library import Library
from sparsight.world.paint import paint
from sparsight.world.scene import Scene
from sparsight.world.tasks.question import Question, right, score

if TYPE_CHECKING:
    from sparsight.vlm.pipeline import VLM

ANSWER = 48  # tokens; dense captions are the longest answers


@dataclass(frozen=True)
class Outcome:
    """One answered question.

    `score` in 0..1 and whether that counts as right; `visual` the visual tokens averaged over the
    LLM's layers; `flops` of tower, prefill and decoding together; `seconds` of the batch it was
    answered in, shared evenly.
    """

    question: Question
    reply: str
    score: float
    right: bool
    visual: float
    flops: float
    seconds: float


def clip_of(scene: Scene, side: int, library: Library | None = None) -> Clip:
    """The scene as a picture or film in memory, its shorter side `side` pixels."""
    frames = paint(scene, scene.times, side, library=library).frames
    if scene.is_film:
        return Clip.from_frames(frames, fps=scene.fps, origin=f"scene {scene.seed}")
    return Clip.from_picture(frames[0], origin=f"scene {scene.seed}")


def examine(
    vlm: VLM,
    items: Iterable[Item],
    *,
    side: int = 112,
    batch: int = 8,
    blind: bool = False,
    library: Library | None = None,
) -> Iterator[Outcome]:
    """Ask a model every question about its scene; greedy answers.

    Args:
        vlm: the model with its plan; films are given with all their frames.
        items: scenes and questions, of one number of frames for a good speed.
        side: pixels of the shorter side of the picture.
        batch: questions answered together.
        blind: leave the picture or film out: what the words alone give away.
        library: photographs and handwriting of the scenes.
    """
    waiting = iter(items)
    while chunk := list(islice(waiting, batch)):
        conversations = [
            _messages(item, None if blind else clip_of(item.scene, side, library)) for item in chunk
        ]
        replies = vlm.chat_batch(conversations, frames="all", max_tokens=ANSWER, temperature=0)
        for item, reply in zip(chunk, replies, strict=True):
            yield Outcome(
                question=item.question,
                reply=reply.text,
                score=score(item.question, reply.text),
                right=right(item.question, reply.text),
                visual=reply.usage.visual_mean,
                flops=reply.flops.total,
                seconds=reply.timing.total / len(chunk),
            )


def _messages(item: Item, clip: Clip | None) -> list[dict[str, Any]]:
    words = {"type": "text", "text": item.question.text}
    parts = [words] if clip is None else [{"type": "image", "image": clip}, words]
    return [{"role": "user", "content": parts}]
