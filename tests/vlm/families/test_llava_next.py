"""LLaVA-NeXT against Hugging Face."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from harness import FamilyTests, Recipe, clip_tower, film, llama, times, tokenizer
from templates import vicuna
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

from sparsight.vlm.families.llava_next import LlavaNext

SIDE, PATCH = 24, 4
PINPOINTS = [[24, 48], [48, 24], [48, 48], [72, 24], [24, 72]]


class LlavaNextRecipe(Recipe):
    family = LlavaNext
    chat_template = vicuna("image")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_grid_pinpoints": PINPOINTS,
    }
    processor_settings: ClassVar[dict[str, Any]] = {
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    beyond: ClassVar[dict[str, str]] = dict.fromkeys(
        ("film", "films", "picture_and_film", "film_and_picture"),
        "Hugging Face tiles every picture, so it has no film of single views",
    )

    def tokenizer(self) -> Any:
        return tokenizer("<image>")

    def model(self, tokens: Any) -> Any:
        return LlavaNextForConditionalGeneration(
            LlavaNextConfig(
                vision_config=clip_tower(SIDE, PATCH),
                text_config=llama(tokens),
                image_token_index=tokens.convert_tokens_to_ids("<image>"),
                image_grid_pinpoints=PINPOINTS,
            )
        )

    def image_processor(self) -> Any:
        return LlavaNextImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        return LlavaNextProcessor(self.image_processor(), tokens, **self.processor_settings)


class TestLlavaNext(FamilyTests):
    recipe = LlavaNextRecipe()

    @torch.no_grad()
    def test_a_film_is_a_row_of_projected_views(self, made):
        frames = film(48, 64)
        family, inner = made.family, made.model.model
        views = family.film_views(frames, times(frames), 2.0)
        [features] = family.project(family.encode([views]))
        packed = family.pack(features)
        tower = inner.vision_tower(views.inputs["pixel_values"], output_hidden_states=True)
        expected = inner.multi_modal_projector(tower.hidden_states[-2][:, 1:]).flatten(0, 1)
        assert torch.equal(packed.embeds, expected)
        assert packed.prunable.all()
        assert len(family.expand("<image>", [views])) == len(packed) * len("<image>")
