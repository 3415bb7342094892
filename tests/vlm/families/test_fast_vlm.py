"""FastVLM against Hugging Face.

Its tower comes from timm; another convolutional tower stands in for it, so that everything but
the tower itself is tried where timm is not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from harness import FamilyTests, Recipe, film_as_pictures, qwen2, tokenizer
from templates import chatml
from torch import Tensor
from transformers import (
    CLIPImageProcessorPil,
    ConvNextConfig,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    TimmWrapperConfig,
)

from sparsight.core.tokens import Views
from sparsight.vlm.families.fast_vlm import FastVlm

SIDE, PATCH = 64, 16


class FastVlmRecipe(Recipe):
    family = FastVlm
    chat_template = chatml("image")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
    }
    processor_settings: ClassVar[dict[str, Any]] = {"patch_size": PATCH}

    def tokenizer(self) -> Any:
        return tokenizer("<|im_start|>", "<|im_end|>", "<image>")

    def tower(self) -> Any:
        return ConvNextConfig(
            patch_size=4, num_stages=3, depths=[1, 1, 1], hidden_sizes=[8, 8, 16], hidden_size=16
        )

    def model(self, tokens: Any) -> Any:
        return FastVlmForConditionalGeneration(
            FastVlmConfig(
                vision_config=self.tower(),
                text_config=qwen2(tokens),
                image_token_index=tokens.convert_tokens_to_ids("<image>"),
            )
        )

    def image_processor(self) -> Any:
        return CLIPImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        return LlavaProcessor(self.image_processor(), tokens, **self.processor_settings)

    def reference_text(self, text: str, views: Sequence[Views]) -> str:
        return film_as_pictures(text, "<image>", views)

    def reference_media(self, row: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        return [frame for item in row for frame in (item if item.ndim == 4 else [item])], []


class TimmRecipe(FastVlmRecipe):
    processor_settings: ClassVar[dict[str, Any]] = {"patch_size": 32}

    def tower(self) -> Any:
        return TimmWrapperConfig(
            architecture="fastvit_t8", hidden_size=768, model_args={"inference_mode": True}
        )

    def model(self, tokens: Any) -> Any:
        model = super().model(tokens)
        with torch.no_grad():  # as built, its features vanish
            for weight in model.model.vision_tower.parameters():
                weight.normal_(std=weight[0].numel() ** -0.5 / 3 if weight.ndim > 1 else 0.5)
        return model


class TestFastVlm(FamilyTests):
    recipe = FastVlmRecipe()

    def test_supplies_no_attention(self, made):
        assert made.family.supplies() == {"film", "square_views", "question_attention"}


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
class TestTimmTower(FamilyTests):
    recipe = TimmRecipe()
    only = ("picture", "film")
