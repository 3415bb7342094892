from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.errors import UserError
from sparsight.core.registry import build
from sparsight.llm.edits import edited
from sparsight.ops.head_votes import looking_heads
from sparsight.ops.visual_apart import visual_apart
from tests.llm.tiny import layout_of, llama, prompt, qwen2

MASK = torch.ones(1, 20, dtype=torch.long)


def logits(model, system, embeds: Tensor) -> Tensor:
    with torch.no_grad(), edited(model.model, system.edits(5), layout_of(MASK)):
        return model(inputs_embeds=embeds, attention_mask=MASK).logits


def test_the_official_votes_of_heads(golden) -> None:
    case = golden("32-yopo", "b")
    rest = case["in_attention_sum_text_after"] + case["in_attention_sum_system"]
    looking = looking_heads(
        case["in_attention_sum_visual"],
        rest,
        float(case["p_threshold"]),
        int(case["p_votes_needed"]),
        int(case["p_layers_always_kept"]),
    )
    assert torch.equal(looking, case["out_head_mask"])


def test_text_attends_as_in_the_official_first_layer(golden) -> None:
    case = golden("32-yopo", "a")
    heads, length = int(case["p_heads"]), case["in_embeds"].shape[1]
    first, count = int(case["p_system_len"]), int(case["p_grid"]) ** 2
    layer = "w_model.layers.0."
    x = case["in_embeds"]
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + float(case["p_rms_eps"]))
    x = x * case[layer + "input_layernorm.weight"]
    q, k, v = (
        (x @ case[f"{layer}self_attn.{name}_proj.weight"].T).view(1, length, heads, -1)
        for name in "qkv"
    )
    width = q.shape[-1]
    angle = torch.arange(length)[:, None] / float(case["p_rope_theta"]) ** (
        torch.arange(0, width, 2) / width
    )
    angle = torch.cat([angle, angle], -1)

    def rotated(states: Tensor) -> Tensor:
        states = states.transpose(1, 2)
        half = torch.cat([-states[..., width // 2 :], states[..., : width // 2]], -1)
        return states * angle.cos() + half * angle.sin()

    visual = torch.zeros(1, length, dtype=torch.bool)
    visual[:, first : first + count] = True
    out = visual_apart(
        rotated(q),
        rotated(k),
        v.transpose(1, 2),
        visual,
        torch.zeros_like(visual),
        case["in_head_mask"][0],
        width**-0.5,
        renormalise=False,
    )
    out = functional.linear(out.flatten(2), case[layer + "self_attn.o_proj.weight"])
    torch.testing.assert_close(
        out[~visual], case["out_attn_output_layer0"][~visual], atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("make", [qwen2, llama])
def test_it_equals_a_mask_between_visual_tokens(make) -> None:
    model = make()
    embeds = prompt(model)
    visual = layout_of(MASK).visual[0]
    seen = torch.ones(20, 20).tril().bool() & ~(visual[:, None] & visual & ~torch.eye(20).bool())
    with torch.no_grad():
        right = model(inputs_embeds=embeds, attention_mask=seen[None, None]).logits
    got = logits(model, build("yopo", {"through": 1.0}), embeds)
    torch.testing.assert_close(got, right, atol=2e-5, rtol=1e-5)


def test_from_the_last_layer_with_visual_tokens_on_they_are_gone() -> None:
    model = qwen2()
    system = build("yopo", {"through": 0.6})
    with torch.no_grad(), edited(model.model, system.edits(5), layout_of(MASK)) as trace:
        out = model(inputs_embeds=prompt(model), attention_mask=MASK)
    assert trace.visual[:, 0].tolist() == [10, 10, 10, 0, 0]
    assert [layer.keys.shape[2] for layer in out.past_key_values.layers] == [20, 20, 20, 10, 10]


def test_a_model_that_skips_all_heads_does_not_see_the_picture() -> None:
    model = qwen2()
    embeds = prompt(model)
    skip = tuple(n for layer in range(5) for head in range(4) for n in (layer, head))
    for alone in (True, False):
        for renormalise in (True, False):
            knobs = {"skip": skip, "through": 1.0, "alone": alone, "renormalise": renormalise}
            system = build("yopo", knobs)
            other = embeds.clone()
            other[:, 4:14] = torch.randn(10, 64)
            text = ~layout_of(MASK).visual[0]
            if renormalise:  # otherwise the picture still takes its share of the attention
                one, two = (logits(model, system, x)[0, text] for x in (embeds, other))
                torch.testing.assert_close(one, two)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("renormalise", [True, False])
def test_decoding_with_a_cache_equals_reading_everything_anew(
    alone: bool, renormalise: bool
) -> None:
    model = qwen2()
    embeds = prompt(model)
    knobs = {"skip": (1, 0, 2, 3), "through": 0.8, "alone": alone, "renormalise": renormalise}
    system = build("yopo", knobs)
    with edited(model.model, system.edits(5), layout_of(MASK)):
        made = model.generate(
            inputs_embeds=embeds, attention_mask=MASK, max_new_tokens=4, do_sample=False,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    tokens = made.sequences[:, :-1]
    whole = torch.cat([embeds, model.model.embed_tokens(tokens)], 1)
    mask = torch.ones(1, whole.shape[1], dtype=torch.long)
    with torch.no_grad(), edited(model.model, system.edits(5), layout_of(mask)):
        right = model(inputs_embeds=whole, attention_mask=mask).logits[0, -4:]
    for mine, anew in zip(made.logits, right, strict=True):
        torch.testing.assert_close(mine[0], anew, atol=3e-5, rtol=1e-4)


def test_a_layer_beyond_the_last_cannot_be_skipped() -> None:
    with pytest.raises(UserError, match="layers beyond 4"):
        build("yopo", {"skip": (5, 0)}).edits(5)
    with pytest.raises(UserError, match="pairs of a layer and a head"):
        build("yopo", {"skip": (5,)})
