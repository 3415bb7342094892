"""The embedded model as the witness of systems that ask: it knows what it sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sparsight
from sparsight.vlm.pipeline import VLM

CLIP = str(Path(sparsight.__file__).parent / "world" / "mini" / "clip.mp4")
SHOWN = range(25, 36)  # the frames of the bundled clip that show the letter Z


@pytest.fixture(scope="module")
def mini() -> VLM:
    return sparsight.load("mini", dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("system", "knobs"),
    [
        ("tstar", {"frames": 2, "rate": 12.0}),
        ("quota", {"keep": 100, "frames": 12, "names": "words", "answer": "word"}),
    ],
)
def test_the_frames_that_show_what_is_asked_about_are_taken(
    mini: VLM, system: str, knobs: dict[str, Any]
) -> None:
    fast = mini.using(system, **knobs)
    reply = fast.ask(CLIP, "What color is the letter Z?", max_tokens=4)
    assert reply.text == "yellow"
    [item] = reply.maps
    assert 2 <= len(item.frames) < 8
    assert set(item.frames) <= set(SHOWN)
    assert reply.flops.select > reply.flops.prefill
    again = fast.ask(CLIP, "What color is the letter Z?", max_tokens=4)
    assert again.maps[0].frames == item.frames
