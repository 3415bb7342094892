from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.llm.attention import look_ahead
from sparsight.llm.edits import edited
from sparsight.llm.layout import Layout
from tests.llm.tiny import layout_of, prompt, qwen2


def decoder_of(case: dict[str, Tensor]) -> Any:
    """One layer with the case's norm and projections."""
    width = case["in_hidden"].shape[-1]
    model = LlamaModel(
        LlamaConfig(
            hidden_size=width,
            num_attention_heads=int(case["p_heads"]),
            num_key_value_heads=int(case["p_kv_heads"]),
            num_hidden_layers=1,
            intermediate_size=8,
            vocab_size=8,
            rms_norm_eps=float(case["p_rms_eps"]),
            rope_theta=float(case["p_rope_base"]),
        )
    ).eval()
    weights = {
        "self_attn.q_proj.weight": case["in_w_q"],
        "self_attn.k_proj.weight": case["in_w_k"],
        "input_layernorm.weight": case["in_norm_weight"],
    }
    model.layers[0].load_state_dict(weights, strict=False)
    return model


@pytest.mark.parametrize("name", ["a", "b"])
@torch.no_grad()
def test_the_official_tokens_stay(golden, name: str) -> None:
    case = golden("pyramiddrop", name)
    decoder, stage = decoder_of(case), int(case["p_stage"])
    for row, real in enumerate(case["in_attention_mask"]):
        hidden = case["in_hidden"][row : row + 1, real]
        length, start = hidden.shape[1], int(case["p_image_position"][row])
        count = length - int(case["p_prompt_len"][row])
        visual = torch.zeros(1, length, dtype=torch.bool)
        visual[:, start : start + count] = True
        layout = Layout.of(torch.ones(1, length), visual)
        layout = replace(layout, start=case["p_image_tokens"][None, row : row + 1])
        edit = build("pyramiddrop", {"keep": 0.5}).edits(depth=8)[stage]
        rope = decoder.rotary_emb(hidden, case["in_position_ids"][row : row + 1, real])
        scores = look_ahead(
            decoder, 0, edit.rows(layout), hidden, edit.heads, position_embeddings=rope
        )
        assert scores is not None
        torch.testing.assert_close(scores[0, 0, visual[0]], case[f"out_score_{row}"])
        made = edit.edit(hidden, layout, scores)
        kept = made.keep[0].nonzero()[:, 0]
        best = case[f"out_kept_index_{row}"]
        assert torch.equal(kept[(kept >= start) & (kept < start + count)], best)
        assert made.keep.sum() == length - count + len(best)
        stays = case["out_attention_mask"][row]
        assert torch.equal(hidden[0, kept], case["out_hidden"][row, stays])
        assert made.positions == "renumber"
        assert case["out_position_ids"][row, stays].tolist() == [*range(len(kept))]


def test_later_stages_count_from_the_original_number() -> None:
    model, mask = qwen2(), torch.ones(1, 20, dtype=torch.long)
    edits = build("pyramiddrop", {"layers": (1, 2, 4)}).edits(depth=5)
    with torch.no_grad(), edited(model.model, edits, layout_of(mask, count=11)) as trace:
        model(inputs_embeds=prompt(model), attention_mask=mask)
    assert trace.visual[:, 0].tolist() == [11, 5, 2, 2, 1]


def test_kept_tokens_are_numbered_on_without_gaps() -> None:
    model, mask = qwen2(), torch.ones(1, 20, dtype=torch.long)
    edits = build("pyramiddrop", {"layers": (2,)}).edits(depth=5)
    with torch.no_grad(), edited(model.model, edits, layout_of(mask)) as trace:
        model(inputs_embeds=prompt(model), attention_mask=mask)
    positions = trace.layouts[-1].positions
    assert positions is not None
    assert positions[0, 0].tolist() == [*range(15)]


def test_stages_are_of_equal_depth_as_published() -> None:
    edits = build("pyramiddrop", {}).edits(depth=32)
    layout = layout_of(torch.ones(1, 600, dtype=torch.long), count=576)
    counts = [(edit.layer, edit.quota(layout).item()) for edit in edits]
    assert counts == [(8, 288), (16, 144), (24, 72)]


def test_layers_that_the_llm_does_not_have_are_refused() -> None:
    with pytest.raises(UserError, match="layers 0, 1, 1 must rise and lie within 1 to 1"):
        build("pyramiddrop", {}).edits(depth=2)
    with pytest.raises(UserError, match="layers 3, 3 must rise"):
        build("pyramiddrop", {"layers": (3, 3)}).edits(depth=9)
