"""Other ways of attention in some layers: left alone they change nothing, narrowed they mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from sparsight.llm.attention import Call, detour
from sparsight.llm.narrow import listed, over_columns

from .tiny import decoder_of, llama, prompt, qwen2, qwen25vl


def step(model: Any, embeds: Tensor, mask: Tensor) -> Tensor:
    """The logits of the last token, the others being cached."""
    cache = DynamicCache(config=decoder_of(model).config)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    given = {"past_key_values": cache, "use_cache": True}
    with torch.no_grad():
        decoder_of(model)(
            inputs_embeds=embeds[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            **given,
        )
        out = decoder_of(model)(
            inputs_embeds=embeds[:, -1:],
            attention_mask=mask,
            position_ids=positions[:, -1:],
            **given,
        )
    return out.last_hidden_state[:, -1]


@pytest.mark.parametrize("make", [qwen2, llama, qwen25vl])
def test_a_way_that_declines_changes_nothing(make: Any) -> None:
    model = make()
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)
    plain = step(model, embeds, mask)
    seen = []

    def way(layer: int, call: Call) -> None:
        seen.append((layer, call.query.shape[2]))

    with detour(decoder_of(model), [1, 3], way):
        assert torch.equal(step(model, embeds, mask), plain)
    assert seen == [(1, 19), (3, 19), (1, 1), (3, 1)]
    assert torch.equal(step(model, embeds, mask), plain)
    assert len(seen) == 4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
def test_keys_left_out_are_as_if_masked(attention: str, padded: bool) -> None:
    model = qwen2()
    model.model.set_attn_implementation(attention)
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)
    if padded:
        mask[0, :3] = 0
    keep = torch.rand(2, 20) > 0.4  # rows keep different counts
    keep[:, -1] = True
    keep &= mask.bool()

    def narrowed(layer: int, call: Call) -> Tensor | None:
        return over_columns(call, *listed(keep)) if call.query.shape[2] == 1 else None

    def masked(layer: int, call: Call) -> Tensor | None:
        if call.query.shape[2] > 1:
            return None
        if attention == "sdpa":
            return call.run(mask=keep[:, None, None])[0]
        hidden = torch.finfo(torch.float32).min
        return call.run(mask=torch.zeros(2, 1, 1, 20).masked_fill(~keep[:, None, None], hidden))[0]

    with detour(model.model, range(5), narrowed):
        got = step(model, embeds, mask)
    with detour(model.model, range(5), masked):
        right = step(model, embeds, mask)
    torch.testing.assert_close(got, right, atol=2e-5, rtol=1e-5)


def test_the_last_row_is_that_of_the_attention_itself() -> None:
    model = qwen2()
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0
    rows = []

    def way(layer: int, call: Call) -> None:
        rows.append(call.last_row())

    with detour(model.model, [2], way):
        step(model, embeds, mask)
    model.model.set_attn_implementation("eager")
    with torch.no_grad():
        whole = model.model(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            output_attentions=True,
        ).attentions[2]
    torch.testing.assert_close(rows[-1], whole[:, :, -1], atol=1e-5, rtol=1e-4)
