"""Ctrl-C in every stage of a real request on the embedded model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import sparsight
from sparsight.core.clip import Clip
from sparsight.vlm.families.llava_onevision import LlavaOnevision
from sparsight.vlm.pipeline import VLM

from .conftest import Runner

CLIP = Path(sparsight.__file__).parent / "world" / "mini" / "clip.mp4"
ASKED = ("ask", str(CLIP), "Which letter is shown?", "--system", "fastervlm", "--system", "fastv")


def stopped(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[VLM]:
    """One model for the command, so that the test can look at it afterwards."""
    vlm = sparsight.load("mini")
    family = vlm.family
    monkeypatch.setattr("sparsight.vlm.load.load_family", lambda *_, **__: family)
    vlm.ask(CLIP, "Which letter is shown?", max_tokens=1)  # transformers sets hooks of its own
    before = state(family.model)
    yield vlm
    assert state(family.model) == before


def state(model: nn.Module) -> list[Any]:
    """What hangs on each module: hooks, forwards and configs put in another's place."""
    return [
        (
            list(part._forward_hooks),
            list(part._forward_pre_hooks),
            "forward" in vars(part),
            id(getattr(part, "config", None)),
        )
        for part in model.modules()
    ]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("sparsight.vlm.seeing", "load"),
        (Clip, "frames"),
        (LlavaOnevision, "film_views"),
        (LlavaOnevision, "tower_features"),
        (LlavaOnevision, "project"),
        (LlavaOnevision, "pack"),
        ("sparsight.systems.reducers.fastervlm.FasterVLM", "reduce"),
        ("sparsight.systems.peers.fastv.DropByLastToken", "edit"),
    ],
    ids=["fetch", "decode", "preprocess", "encode", "connect", "pack", "reduce", "prefill"],
)
def test_ctrl_c_stops_with_one_line_and_leaves_the_model_as_it_was(
    loaded: VLM, cli: Runner, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    with monkeypatch.context() as patch:
        if isinstance(owner, str):
            patch.setattr(f"{owner}.{name}", stopped)
        else:
            patch.setattr(owner, name, stopped)
        code, out, err = cli(*ASKED)
    assert (code, out) == (130, "")
    assert err == "sparsight: stopped\n"
    assert loaded.ask(CLIP, "Which letter is shown?", max_tokens=4).text


def test_a_whole_request_leaves_the_model_as_it_was(loaded: VLM, cli: Runner) -> None:
    assert cli(*ASKED)[0] == 0
