"""LLaVA-OneVision against Hugging Face."""

from __future__ import annotations

from typing import Any, ClassVar

from harness import FamilyTests, FilmTests, Recipe, clip_tower, qwen2, tokenizer
from templates import chatml
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
    SiglipVisionConfig,
)

from sparsight.vlm.families.llava_onevision import LlavaOnevision

SIDE, PATCH = 20, 4
PINPOINTS = [[SIDE * rows, SIDE * columns] for rows in range(1, 4) for columns in range(1, 4)]


class OnevisionRecipe(Recipe):
    family = LlavaOnevision
    chat_template = chatml("image", "video")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"height": SIDE, "width": SIDE},
        "image_grid_pinpoints": PINPOINTS,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
    }
    film_settings: ClassVar[dict[str, Any]] = {
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    processor_settings: ClassVar[dict[str, Any]] = {
        "num_image_tokens": (SIDE // PATCH) ** 2,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_2",
    }

    strategy = "full"
    video_processor = "LlavaOnevisionVideoProcessor"

    def tokenizer(self) -> Any:
        return tokenizer("<|im_start|>", "<|im_end|>", "<image>", "<video>")

    def tower(self) -> Any:
        return SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=PATCH,
            vision_use_head=False,
        )

    def model(self, tokens: Any) -> Any:
        config = LlavaOnevisionConfig(
            vision_config=self.tower(),
            text_config=qwen2(tokens),
            image_token_index=tokens.convert_tokens_to_ids("<image>"),
            video_token_index=tokens.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=PINPOINTS,
            vision_aspect_ratio="anyres_max_2",
            vision_feature_select_strategy=self.strategy,
        )
        return LlavaOnevisionForConditionalGeneration(config)

    def image_processor(self) -> Any:
        return LlavaOnevisionImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        return LlavaOnevisionProcessor(
            self.image_processor(), tokens, films, **self.processor_settings
        )


class ClipRecipe(OnevisionRecipe):
    """With a CLIP tower, whose CLS token is left out."""

    strategy = "default"
    processor_settings: ClassVar[dict[str, Any]] = {
        "num_image_tokens": (SIDE // PATCH) ** 2 + 1,
        "vision_feature_select_strategy": "default",
        "vision_aspect_ratio": "anyres_max_2",
    }

    def tower(self) -> Any:
        return clip_tower(SIDE, PATCH)


class TestLlavaOnevision(FilmTests):
    recipe = OnevisionRecipe()


class TestClipTower(FamilyTests):
    recipe = ClipRecipe()
    only = ("picture", "film")
