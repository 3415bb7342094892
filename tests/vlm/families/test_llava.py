"""LLaVA-1.5 against Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from harness import (
    TIMES,
    FamilyTests,
    Recipe,
    clip_tower,
    film,
    film_as_pictures,
    llama,
    picture,
    tokenizer,
)
from templates import vicuna
from torch import Tensor
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
)

from sparsight.core.errors import UserError
from sparsight.core.slots import Need
from sparsight.core.tokens import Views
from sparsight.vlm.families import family_of
from sparsight.vlm.families.llava import Llava

SIDE, PATCH = 24, 4


class LlavaRecipe(Recipe):
    family = Llava
    chat_template = vicuna("image")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    processor_settings: ClassVar[dict[str, Any]] = {
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }

    layer: ClassVar[int | list[int]] = -2

    def tokenizer(self) -> Any:
        return tokenizer("<image>")

    def model(self, tokens: Any) -> Any:
        return LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=clip_tower(SIDE, PATCH),
                text_config=llama(tokens),
                image_token_index=tokens.convert_tokens_to_ids("<image>"),
                vision_feature_layer=self.layer,
            )
        )

    def image_processor(self) -> Any:
        return LlavaImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        return LlavaProcessor(self.image_processor(), tokens, **self.processor_settings)

    def reference_text(self, text: str, views: Sequence[Views]) -> str:
        return film_as_pictures(text, "<image>", views)

    def reference_media(self, row: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [frame for item in row for frame in (item if item.ndim == 4 else [item])], []


class PaddedRecipe(LlavaRecipe):
    """As the image processor pads to a square, with sizes in the old style."""

    picture_settings: ClassVar[dict[str, Any]] = {"size": SIDE, "crop_size": SIDE, "do_pad": True}


class TwoLayersRecipe(LlavaRecipe):
    """Features of two tower layers side by side."""

    layer: ClassVar[int | list[int]] = [-3, -2]


class TestLlava(FamilyTests):
    recipe = LlavaRecipe()

    @torch.no_grad()
    def test_cls_attention_is_the_towers_own(self, made):
        views = made.family.film_views(film(48, 64), TIMES, 2.0)
        [features] = made.family.encode([views], [Need("cls_attention")])
        tower = made.model.model.vision_tower
        tower.set_attn_implementation("eager")
        out = tower(views.inputs["pixel_values"], output_attentions=True)
        tower.set_attn_implementation("sdpa")
        expected = out.attentions[-2][:, :, 0, 1:].mT.unflatten(1, views.grid)
        assert torch.allclose(features.signals["cls_attention"], expected, atol=1e-6)

    @torch.no_grad()
    def test_a_signal_of_another_block_has_its_own_name(self, made):
        views = made.family.film_views(film(48, 64), TIMES, 2.0)
        needs = [
            Need("cls_attention", block=0),
            Need("cls_attention_joined", block="last"),
            Need("keys", block="last"),
        ]
        [features] = made.family.encode([views], needs)
        tower = made.model.model.vision_tower
        tower.set_attn_implementation("eager")
        out = tower(views.inputs["pixel_values"], output_attentions=True, output_hidden_states=True)
        tower.set_attn_implementation("sdpa")
        first = out.attentions[0][:, :, 0, 1:].mT.unflatten(1, views.grid)
        assert torch.allclose(features.signals["cls_attention@0"], first, atol=1e-6)
        block = made.family.blocks("image")[-1]
        given = block.layer_norm1(out.hidden_states[-2])
        query, key = block.self_attn.q_proj(given), block.self_attn.k_proj(given)
        joined = (query[:, :1] @ key.mT * key.shape[-1] ** -0.5).softmax(-1)[:, 0, 1:]
        assert torch.allclose(features.signals["keys@last"].flatten(1, 2), key[:, 1:], atol=1e-6)
        got = features.signals["cls_attention_joined@last"]
        assert torch.allclose(got, joined.view(*got.shape), atol=1e-6)

    @torch.no_grad()
    def test_the_towers_features_and_cls_token_can_be_had(self, made):
        views = made.family.film_views(film(48, 64), TIMES, 2.0)
        [features] = made.family.encode([views], [Need("features"), Need("cls_feature")])
        out = made.model.model.vision_tower(views.inputs["pixel_values"], output_hidden_states=True)
        state = made.family.selected(out.hidden_states)
        assert torch.equal(features.signals["features"].flatten(1, 2), state[:, 1:])
        assert torch.equal(features.signals["cls_feature"][:, 0, 0], state[:, 0])
        [projected] = made.family.project([features])
        tokens = made.family.pack(projected)
        again = tokens.projector(tokens.signals["features"])
        assert torch.allclose(again, tokens.embeds, atol=1e-6)
        assert torch.equal(projected.raw.flatten(1, 2), state[:, 1:])

    def test_text_may_not_hold_a_placeholder(self, made):
        views = made.family.picture_views(picture(30, 40), True)
        with pytest.raises(UserError, match="'<image>' 2 times for 1 media"):
            made.family.expand("<image> what does <image> mean ?", [views])

    def test_an_unknown_model_type_lists_what_is_supported(self):
        with pytest.raises(UserError, match=r"'llavo'; did you mean 'llava'\? .*smolvlm"):
            family_of("llavo")


class TestPaddedPictures(FamilyTests):
    recipe = PaddedRecipe()
    only = ("picture",)


class TestFeaturesOfTwoLayers(FamilyTests):
    recipe = TwoLayersRecipe()
    only = ("picture", "film")
