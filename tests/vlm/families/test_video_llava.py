"""Video-LLaVA against Hugging Face."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from harness import SIZES, FilmTests, Recipe, clip_tower, film, llama, times, tokenizer
from templates import vicuna
from transformers import (
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
)

from sparsight.vlm.families.video_llava import VideoLlava

SIDE, PATCH = 24, 4


class VideoLlavaRecipe(Recipe):
    family = VideoLlava
    chat_template = vicuna("image", "video")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    film_settings: ClassVar[dict[str, Any]] = picture_settings
    processor_settings: ClassVar[dict[str, Any]] = {
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    video_processor = "VideoLlavaVideoProcessor"
    pixels_name = "pixel_values_images"
    # The processor takes a picture of one row for one of one channel.
    sizes = tuple(size for size in SIZES if size != (1, 7))

    def tokenizer(self) -> Any:
        return tokenizer("<image>", "<video>")

    def model(self, tokens: Any) -> Any:
        return VideoLlavaForConditionalGeneration(
            VideoLlavaConfig(
                vision_config=clip_tower(SIDE, PATCH),
                text_config=llama(tokens),
                image_token_index=tokens.convert_tokens_to_ids("<image>"),
                video_token_index=tokens.convert_tokens_to_ids("<video>"),
            )
        )

    def image_processor(self) -> Any:
        return VideoLlavaImageProcessor(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        return VideoLlavaProcessor(self.image_processor(), films, tokens, **self.processor_settings)


class TestVideoLlava(FilmTests):
    recipe = VideoLlavaRecipe()

    @torch.no_grad()
    def test_every_frame_begins_with_its_cls_token(self, made):
        frames = film(48, 48)
        views = made.family.film_views(frames, times(frames), 2.0)
        [features] = made.family.project(made.family.encode([views]))
        packed = made.family.pack(features)
        patches = (SIDE // PATCH) ** 2
        first = torch.arange(len(frames)) * (1 + patches)
        assert len(packed) == len(frames) * (1 + patches)
        assert packed.box[first].tolist() == [[0, 0, 1, 1]] * len(frames)
        assert features.is_grid
        assert torch.equal(packed.embeds[1 : 1 + patches], features.features[0].flatten(0, 1))
