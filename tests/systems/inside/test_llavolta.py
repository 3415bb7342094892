from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.llm.edits import edited
from sparsight.llm.layout import Layout


def official_model(case: dict[str, Tensor]) -> LlamaForCausalLM:
    weights = {name[2:]: value for name, value in case.items() if name.startswith("w_")}
    vocabulary, width = weights["model.embed_tokens.weight"].shape
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=weights["model.layers.0.mlp.up_proj.weight"].shape[0],
        num_hidden_layers=int(case["p_layers"]),
        num_attention_heads=int(case["p_heads"]),
        rms_norm_eps=float(case["p_rms_eps"]),
        rope_parameters={"rope_type": "default", "rope_theta": float(case["p_rope_theta"])},
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("row", [0, 1])
@torch.inference_mode()
def test_a_model_answers_as_the_official_one(golden, row: int) -> None:
    case = golden("61-llavolta", "a")
    model = official_model(case)
    length = int(case["in_attention_mask"][row].sum())  # the reference pads on the right
    embeds = case["in_embeds"][row : row + 1, :length]
    visual = torch.zeros(1, length, dtype=torch.bool)
    start = int(case["in_image_starts"][row, 0])
    visual[:, start : start + int(case["p_visual_length"])] = True
    knobs = {"layer": int(case["p_layer"]), "stride": int(case["p_stride"])}
    edits = build("llavolta", knobs).edits(int(case["p_layers"]))
    with edited(model.model, edits, Layout.of(torch.ones(1, length), visual)) as trace:
        out = model(inputs_embeds=embeds, output_hidden_states=True)
    kept = out.logits.shape[1]
    layout = trace.layouts[-1]
    assert layout.positions[0, 0].tolist() == case["out_position_ids"][row, :kept].tolist()
    torch.testing.assert_close(out.logits[0], case["out_logits"][row, :kept], atol=2e-4, rtol=0)
    hidden = case["out_hidden_3"][row, :kept]  # what layer 2 makes of the averages
    torch.testing.assert_close(out.hidden_states[3][0], hidden, atol=2e-4, rtol=0)


@pytest.mark.parametrize("start", [35, 611, 1000])
def test_positions_are_the_mean_rounded_down(golden, start: int) -> None:
    case = golden("61-llavolta", "b")
    size = int(case["p_visual_length"])
    length = start + size + 1
    visual = torch.zeros(1, length, dtype=torch.bool)
    visual[:, start : start + size] = True
    (edit,) = build("llavolta", {"stride": int(case["p_stride"])}).edits(4)
    made = edit.edit(torch.zeros(1, length, 1), Layout.of(torch.ones(1, length), visual), None)
    kept = (made.keep & visual)[0].nonzero()[:, 0]
    assert torch.equal(kept, case[f"out_position_start_{start}_exact_floor"])


def test_the_rest_of_a_run_is_averaged_too_and_media_are_not_mixed() -> None:
    hidden = torch.arange(8.0).view(1, 8, 1)
    visual = torch.tensor([[False, True, True, True, True, True, False, False]])
    media = torch.tensor([[-1, 0, 0, 0, 1, 1, -1, -1]])
    layout = Layout.of(torch.ones(1, 8), visual, media=media)
    (edit,) = build("llavolta", {"layer": 1, "stride": 2}).edits(4)
    made = edit.edit(hidden, layout, None)
    assert made.hidden[made.keep].flatten().tolist() == [0, 1.5, 3, 4.5, 6, 7]


def test_a_stride_of_one_edits_nothing() -> None:
    assert build("llavolta", {"stride": 1}).edits(4) == []


def test_a_layer_beyond_the_last_is_refused() -> None:
    with pytest.raises(UserError, match="within 1 to 3"):
        build("llavolta", {"layer": 4}).edits(depth=4)
