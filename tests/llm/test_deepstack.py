"""DeepStack by hooks: the same bits as the model's own, and sliced along with edits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.llm.cache import kv_tokens
from sparsight.llm.deepstack import deepstack
from sparsight.llm.edits import Edit, edited
from sparsight.llm.layout import Layout

from .tiny import END, IMAGE, START, Using, dropping, fastv, mrope, prompt, qwen2, qwen3vl

GRID = torch.tensor([[1, 4, 10]])  # 2 x 5 tokens after merging
LAYERS = 2


def picture(model: Any) -> dict[str, Tensor]:
    """A prompt with one picture, as the model itself takes it."""
    ids = torch.tensor([[1, 2, 3, START, *[IMAGE] * 10, END, 5, 6, 7, 8, 9]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(40, 3 * 2 * 8 * 8),
        "image_grid_thw": GRID,
        "mm_token_type_ids": (ids == IMAGE).long(),
    }


def spliced(
    model: Any, inputs: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
    """The same prompt as embeddings, with its DeepStack features and visual mask."""
    with torch.no_grad():
        seen = model.get_image_features(inputs["pixel_values"], GRID, return_dict=True)
    mask = inputs["input_ids"] == IMAGE
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach()
    embeds[mask] = torch.cat(list(seen.pooler_output)).to(embeds.dtype)
    given = {
        "inputs_embeds": embeds,
        "attention_mask": inputs["attention_mask"],
        "position_ids": mrope(inputs["attention_mask"]),
    }
    # The model hands its features out picture by picture.
    return given, [torch.cat(list(layer)) for layer in seen.deepstack_features], mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hooks_give_the_bits_of_the_model_itself(dtype: torch.dtype) -> None:
    model = qwen3vl().to(dtype)
    inputs = picture(model)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    given, features, mask = spliced(model, inputs)
    assert len(features) == LAYERS
    with torch.no_grad():
        own = model(**inputs).logits
        without = model(**given).logits
        with deepstack(model.model.language_model, features, mask):
            mine = model(**given).logits
    assert torch.equal(own, mine)
    assert not torch.equal(own, without)


def test_generating_gives_the_tokens_of_the_model_itself() -> None:
    model = qwen3vl()
    inputs = picture(model)
    given, features, mask = spliced(model, inputs)
    options = {"max_new_tokens": 5, "do_sample": False}
    own = model.generate(**inputs, **options)[:, 20:]
    with deepstack(model.model.language_model, features, mask):
        mine = model.generate(**given, **options)
    assert torch.equal(own, mine)


def test_a_padded_batch_equals_its_rows_alone() -> None:
    model = qwen3vl()
    decoder = model.model.language_model
    embeds = prompt(model, 2)
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[0, :3] = 0
    visual = Layout.of(mask, (mask.cumsum(1) >= 5) & (mask.cumsum(1) < 15)).visual
    features = [torch.randn(20, 64) for _ in range(LAYERS)]
    with torch.no_grad(), deepstack(decoder, features, visual):
        together = model(inputs_embeds=embeds, attention_mask=mask, position_ids=mrope(mask)).logits
    for row, start in ((0, 3), (1, 0)):
        alone_mask = mask[row : row + 1, start:]
        part = [feature[10 * row : 10 * row + 10] for feature in features]
        with torch.no_grad(), deepstack(decoder, part, visual[row : row + 1, start:]):
            alone = model(
                inputs_embeds=embeds[row : row + 1, start:],
                attention_mask=alone_mask,
                position_ids=mrope(alone_mask),
            ).logits
        torch.testing.assert_close(together[row, start:], alone[0], atol=2e-5, rtol=1e-5)


def test_features_follow_the_tokens_that_edits_have_left() -> None:
    """Dropping before layer 1 or 2 equals the hand loop that gathers features as well."""
    model = qwen3vl()
    decoder = model.model.language_model
    given, features, mask = spliced(model, picture(model))
    layout = Layout.of(given["attention_mask"], mask)
    kept = {
        1: torch.tensor([0, 1, 2, 3, 4, 6, 8, 10, 12, *range(14, 20)]),
        2: torch.tensor([0, 1, 2, 3, 4, 8, 12, *range(14, 20)]),
    }
    places = given["position_ids"]
    columns, hidden = torch.arange(20), given["inputs_embeds"]
    row = mask[0].cumsum(0) - 1
    with torch.no_grad():
        for i, layer in enumerate(decoder.layers):
            if i in kept:
                stays = torch.isin(columns, kept[i])
                hidden, columns = hidden[:, stays], columns[stays]
            rope = decoder.rotary_emb(hidden, places[..., columns])
            causal = (columns[None, :] <= columns[:, None])[None, None]
            hidden = layer(hidden, attention_mask=causal, position_embeddings=rope)
            if i < LAYERS:
                visual = mask[0, columns]
                hidden[:, visual] += features[i][row[columns[visual]]]
        right = model.lm_head(decoder.norm(hidden[:, -1:]))
        with (
            edited(decoder, [dropping(1), dropping(2)], layout) as trace,
            deepstack(decoder, features, mask),
        ):
            got = model(**given).logits[:, -1:]
    assert trace.visual[:, 0].tolist() == [10, 5, 3, 3, 3]
    torch.testing.assert_close(got, right, atol=2e-5, rtol=1e-5)


def test_features_skip_the_filling_of_ragged_rows() -> None:
    model = qwen3vl()
    decoder = model.model.language_model
    embeds, mask = prompt(model, 2), torch.ones(2, 20, dtype=torch.long)
    visual = torch.zeros(2, 20, dtype=torch.bool)
    visual[:, 4:14] = True
    features = [torch.randn(20, 64) for _ in range(LAYERS)]

    def run(rows: list[int], counts: list[int]) -> Tensor:
        def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
            rank = layout.prunable.long().cumsum(1)
            return Edit(~layout.prunable | (rank <= torch.tensor(counts)[:, None]))

        part = [feature.view(2, 10, 64)[rows].flatten(0, 1) for feature in features]
        layout = Layout.of(mask[rows], visual[rows])
        with (
            torch.no_grad(),
            edited(decoder, [Using(1, choose)], layout),
            deepstack(decoder, part, visual[rows]),
        ):
            return model(inputs_embeds=embeds[rows], attention_mask=mask[rows]).logits[:, -1]

    together = run([0, 1], [8, 2])
    torch.testing.assert_close(together[:1], run([0], [8]), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], run([1], [2]), atol=2e-5, rtol=1e-5)


def test_a_second_turn_adds_only_the_features_of_its_own_tokens() -> None:
    model = qwen3vl()
    decoder = model.model.language_model
    embeds, mask = prompt(model, 1, 30), torch.ones(1, 30, dtype=torch.long)
    visual = torch.zeros(1, 30, dtype=torch.bool)
    visual[:, 14:20] = visual[:, 22:27] = True
    features = [torch.randn(11, 64) for _ in range(LAYERS)]
    with torch.no_grad():
        with deepstack(decoder, features, visual):
            right = model(inputs_embeds=embeds, attention_mask=mask).logits[:, 20:]
        with deepstack(decoder, [feature[:6] for feature in features], visual[:, :20]):
            first = model(inputs_embeds=embeds[:, :20], attention_mask=mask[:, :20])
            cache = first.past_key_values
            places = torch.arange(20, 30)[None]
            # Whatever comes later in the same call is not what the mask speaks of.
            plain = model(inputs_embeds=embeds[:, 20:22], attention_mask=mask[:, :22],
                          position_ids=places[:, :2], past_key_values=cache).logits  # fmt: skip
        with deepstack(decoder, features, visual):
            rest = model(inputs_embeds=embeds[:, 22:], attention_mask=mask,
                         position_ids=places[:, 2:], past_key_values=cache).logits  # fmt: skip
    torch.testing.assert_close(torch.cat([plain, rest], 1), right, atol=2e-5, rtol=1e-5)


def test_too_few_features_are_refused_with_both_numbers() -> None:
    model = qwen3vl()
    visual = torch.ones(1, 20, dtype=torch.bool)
    with (
        pytest.raises(UserError, match="layer 1 has 19 features for 20 tokens"),
        deepstack(model.model.language_model, [torch.zeros(20, 64), torch.zeros(19, 64)], visual),
    ):
        pass


def test_hooks_are_gone_after_an_exception() -> None:
    model = qwen2()
    visual = torch.ones(1, 20, dtype=torch.bool)
    with (
        pytest.raises(RuntimeError, match="elsewhere"),
        deepstack(model.model, [torch.zeros(20, 64)], visual),
    ):
        raise RuntimeError("elsewhere")
    assert not model.model.layers[0]._forward_hooks


def test_with_a_fastv_edit_the_cache_is_ragged_and_generation_runs() -> None:
    model = qwen3vl()
    decoder = model.model.language_model
    given, features, mask = spliced(model, picture(model))
    layout = Layout.of(given["attention_mask"], mask)
    with edited(decoder, [fastv(1, 4)], layout), deepstack(decoder, features, mask):
        got = model.generate(
            **given, max_new_tokens=5, do_sample=False, return_dict_in_generate=True
        )
    assert kv_tokens(got.past_key_values) == [24, 18, 18, 18, 18]
