"""LLaVA-NeXT-Video against Hugging Face."""

from __future__ import annotations

from typing import Any, ClassVar

from harness import FilmTests, Recipe, clip_tower, llama, tokenizer
from templates import vicuna
from transformers import (
    LlavaNextImageProcessorPil,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
)

from sparsight.vlm.families.llava_next_video import LlavaNextVideo

SIDE, PATCH = 24, 4
PINPOINTS = [[24, 48], [48, 24], [48, 48], [72, 24], [24, 72]]


class LlavaNextVideoRecipe(Recipe):
    family = LlavaNextVideo
    chat_template = vicuna("image", "video")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_grid_pinpoints": PINPOINTS,
    }
    film_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    processor_settings: ClassVar[dict[str, Any]] = {
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    video_processor = "LlavaNextVideoVideoProcessor"
    mode = "average"

    def tokenizer(self) -> Any:
        return tokenizer("<image>", "<video>")

    def model(self, tokens: Any) -> Any:
        return LlavaNextVideoForConditionalGeneration(
            LlavaNextVideoConfig(
                vision_config=clip_tower(SIDE, PATCH),
                text_config=llama(tokens),
                image_token_index=tokens.convert_tokens_to_ids("<image>"),
                video_token_index=tokens.convert_tokens_to_ids("<video>"),
                image_grid_pinpoints=PINPOINTS,
                spatial_pool_mode=self.mode,
            )
        )

    def image_processor(self) -> Any:
        return LlavaNextImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        return LlavaNextVideoProcessor(
            films, self.image_processor(), tokens, **self.processor_settings
        )


class MaxPooled(LlavaNextVideoRecipe):
    mode = "max"


class TestLlavaNextVideo(FilmTests):
    recipe = LlavaNextVideoRecipe()


class TestMaxPooledFilms(FilmTests):
    recipe = MaxPooled()
    only = ("film",)
