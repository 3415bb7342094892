from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.llm.attention import Call, detour, probe
from sparsight.llm.first_layer import question_attention
from sparsight.llm.relevance import token_relevance
from tests.llm.tiny import layout_of, llama, mrope, prompt, qwen2, qwen25vl


def small(layers: int = 2) -> Any:
    """A few layers of grouped queries in double precision, for differences."""
    model = qwen2()
    del model.model.layers[layers:]
    return model.double()


def maps_of(model: Any, embeds: Tensor) -> list[Tensor]:
    length = embeds.shape[1]
    rows = dict.fromkeys(range(len(model.model.layers)), torch.arange(length))
    with torch.no_grad(), probe(model.model, rows) as scores:
        model(inputs_embeds=embeds)
    return [scores[layer][0].double() for layer in rows]


def test_relevance_equals_a_naive_rollout_with_finite_differences() -> None:
    model = small()
    words = torch.tensor([7, 21])
    embeds = prompt(model, length=3)
    whole = torch.cat([embeds, model.model.embed_tokens(words[:-1])[None].detach()], 1)
    got = token_relevance(model.model, lambda x: model(inputs_embeds=x).logits, whole, words)

    expected = torch.zeros(3, dtype=torch.float64)
    for step, word in enumerate(words.tolist()):
        behind = whole[:, : 3 + step]  # the answer so far, and no more
        size, maps = behind.shape[1], maps_of(model, behind)
        rollout = torch.eye(size, dtype=torch.float64)
        for layer, attention in enumerate(maps):
            gradient = torch.zeros_like(attention)
            for head, row, column in torch.cartesian_prod(
                torch.arange(len(attention)), torch.arange(size), torch.arange(size)
            ).tolist():
                if column > row:
                    continue
                ends = []
                for change in (1e-4, -1e-4):
                    moved = [item.clone() for item in maps]
                    # Layers above follow from what this one gives: only it is moved.
                    moved[layer][head, row, column] += change
                    ends.append(rerun(model, behind, moved, layer)[-1, word])
                gradient[head, row, column] = (ends[0] - ends[1]) / 2e-4
            rollout = rollout + (attention * gradient).clamp_min(0).mean(0) @ rollout
        expected += rollout[-1, :3] / len(words)
    torch.testing.assert_close(got.double(), expected, atol=1e-4, rtol=1e-3)


def rerun(model: Any, embeds: Tensor, maps: list[Tensor], moved: int) -> Tensor:
    """The logits where layer `moved` uses its map as given and those above make their own."""

    def attend(layer: int, call: Call) -> Tensor | None:
        if layer != moved:
            return None
        value = call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], 1)
        return (maps[layer][None] @ value).transpose(1, 2)

    with torch.no_grad(), detour(model.model, [moved], attend):
        return model(inputs_embeds=embeds).logits[0]


def test_weights_need_no_gradients_and_get_none() -> None:
    model = qwen2().requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = token_relevance(
        model.model, lambda x: model(inputs_embeds=x).logits, prompt(model), torch.tensor([3])
    )
    assert found.shape == (20,)
    assert found[-1] >= 1  # the row's own
    assert (found >= 0).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("make", [qwen2, llama, qwen25vl])
def test_rows_of_the_first_layer_are_those_of_its_whole_map(make) -> None:
    model, mask = make(), torch.ones(1, 20, dtype=torch.long)
    decoder = getattr(model.model, "language_model", model.model)
    embeds, layout = prompt(model), layout_of(mask)
    places = mrope(mask) if make is qwen25vl else torch.arange(20)[None]
    with torch.no_grad(), probe(decoder, {0: torch.arange(20)}) as whole:
        model(inputs_embeds=embeds, attention_mask=mask, position_ids=places)
    wanted = whole[0][0].mean(0)[14:].mean(0)
    found = question_attention(decoder, embeds, places, layout)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
