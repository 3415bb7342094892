from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask

from sparsight.llm.gaps import gaps_allowed

from .tiny import qwen2


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a stand-in for flash attention is told about positions, layer by layer."""
    told: list[Any] = []

    def attend(module: Any, q: Any, k: Any, v: Any, mask: Any, **kwargs: Any) -> Any:
        told.append(kwargs.get("position_ids"))
        return sdpa_attention_forward(module, q, k, v, mask, **kwargs)

    AttentionInterface.register("flash_stand_in", attend)
    AttentionMaskInterface.register("flash_stand_in", flash_attention_mask)
    return told


def test_flash_layers_see_no_gaps_and_the_answer_is_that_of_sdpa(seen: list[Any]) -> None:
    model = qwen2()
    ids = torch.arange(1, 9)[None]
    positions = torch.tensor([[0, 1, 2, 7, 8, 20, 21, 22]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        model.model.config._attn_implementation = "flash_stand_in"
        with gaps_allowed(model.model):
            got = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        model(input_ids=ids, attention_mask=mask, position_ids=positions)
    depth = len(model.model.layers)
    assert torch.equal(got, expected)
    assert seen[:depth] == [None] * depth
    assert all(told is not None for told in seen[depth:])  # the hooks are gone


def test_other_attention_is_left_alone() -> None:
    model = qwen2()
    with gaps_allowed(model.model):
        assert not any(layer._forward_pre_hooks for layer in model.model.layers)
