"""The embedded model as the witness of systems that ask: it knows what it sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sparsight
from sparsight.core.clip import Clip
from sparsight.vlm.pipeline import VLM
from sparsight.world.exam import Item, exam
from sparsight.world.examine import clip_of
from sparsight.world.truth import truth

SHAPES = ("circle", "square", "star")
SHOWN = (6, 7)  # the frames of each film that show what is asked about


@pytest.fixture(scope="module")
def mini() -> VLM:
    return sparsight.load("mini", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def films() -> list[tuple[Clip, Item]]:
    """For each shape a film of twelve scenes, of which two show it."""
    items = list(exam("color", "test", 60))
    made = []
    for shape in SHAPES:
        item = next(item for item in items if item.question.text.endswith(f"the {shape}?"))
        others = [
            frame(other)
            for other in items
            if not any(shape in thing["name"] for thing in truth(other.scene)["things"])
        ]
        frames = [*others[:6], frame(item), frame(item), *others[6:10]]
        made.append((Clip.from_frames(torch.stack(frames), fps=1.0), item))
    return made


def frame(item: Item) -> torch.Tensor:
    return clip_of(item.scene, 112).frames([0])[0]


@pytest.mark.parametrize(
    ("system", "knobs"),
    [
        ("tstar", {"frames": 2, "rate": 1.0}),
        ("quota", {"keep": 100, "frames": 12, "names": "words", "answer": "word"}),
    ],
)
def test_the_frames_that_show_what_is_asked_about_are_taken(
    mini: VLM, films: list[tuple[Clip, Item]], system: str, knobs: dict[str, Any]
) -> None:
    fast = mini.using(system, **knobs)
    for clip, item in films:
        reply = fast.ask(clip, item.question.text, max_tokens=4)
        assert reply.text == item.question.answer
        [kept] = reply.maps
        assert set(SHOWN) <= set(kept.frames)
        assert len(kept.frames) <= 4
        assert reply.flops.select > reply.flops.prefill
    again = fast.ask(clip, item.question.text, max_tokens=4)
    assert again.maps[0].frames == kept.frames
