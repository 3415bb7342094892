"""The seconds that the systems take for themselves are counted wherever they work."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from sparsight.core.plan import parse_system
from sparsight.core.registry import entry
from sparsight.systems.peers.fastv import DropByLastToken
from sparsight.vlm.pipeline import VLM
from tests.vlm.tiny import QUESTION, movie

PAUSE = 0.05


def pausing(work: Any) -> Any:
    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(PAUSE)
        return work(*args, **kwargs)

    return slow


@pytest.mark.parametrize(
    ("system", "owner", "method"),
    [
        ("fastervlm:keep=0.5", "fastervlm", "reduce"),
        ("pllava:shape=2x2x2,frames=4", "pllava", "connect"),
        ("ts-llava:frames=2,thumbnail=2,samples=3", "ts-llava", "tile"),
        ("ts-llava:frames=2,thumbnail=2,samples=3", "ts-llava", "select"),
        ("fastv:keep=0.5,layer=1", DropByLastToken, "edit"),
    ],
)
def test_what_a_system_does_is_its_own(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch, system: str, owner: Any, method: str
):
    built = parse_system(system)
    of = entry(owner).cls if isinstance(owner, str) else owner
    monkeypatch.setattr(of, method, pausing(getattr(of, method)))
    plan = vlm.plan.using(built)
    timing = vlm.planned(plan).ask(movie(), QUESTION, max_tokens=2).timing
    assert PAUSE <= timing.own < timing.total


def test_reading_attention_rows_is_the_systems_own(vlm: VLM, monkeypatch: pytest.MonkeyPatch):
    import sparsight.llm.attention as attention

    monkeypatch.setattr(attention, "_read", pausing(attention._read))
    asked = vlm.using("fastervlm", keep=1.0).ask(movie(), QUESTION, max_tokens=1)
    assert asked.timing.own >= PAUSE


def test_merging_in_the_tower_is_the_systems_own(vlm: VLM, monkeypatch: pytest.MonkeyPatch):
    from sparsight.modules.towers import TowerMerge

    monkeypatch.setattr(TowerMerge, "step", pausing(TowerMerge.step))
    asked = vlm.using("tome", r=2).ask(movie(), QUESTION, max_tokens=1)
    assert asked.timing.own >= PAUSE


def test_a_plain_model_has_no_own_and_a_stream_counts_too(vlm: VLM):
    assert vlm.ask(movie(), QUESTION, max_tokens=2).timing.own == 0.0
    message = [{"role": "user", "content": [{"type": "image", "image": movie()},
               {"type": "text", "text": QUESTION}]}]  # fmt: skip
    fast = vlm.using("fastervlm", keep=0.5).using("fastv", keep=0.5, layer=1)
    with fast.generate(message, max_tokens=2) as pieces:
        for _ in pieces:
            pass
    assert pieces.result is not None
    assert pieces.result.timing.own > 0
    assert torch.isfinite(torch.tensor(pieces.result.timing.own))
