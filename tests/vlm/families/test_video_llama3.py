"""VideoLLaMA3 against Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from harness import FilmTests, Recipe, film, qwen2, tokenizer
from test_qwen2_vl import MARKS, TEMPLATE, metadata, token_ids
from transformers import (
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessorPil,
    VideoLlama3Processor,
)

from sparsight.core.tokens import Views
from sparsight.vlm.families.video_llama3 import VideoLlama3

PATCH = 4


class VideoLlama3Recipe(Recipe):
    family = VideoLlama3
    chat_template = TEMPLATE.replace("<|vision_start|>", "").replace("<|vision_end|>", "\n")
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": 16 * 16, "longest_edge": 40 * 40},
        "patch_size": PATCH,
        "temporal_patch_size": 1,
        "merge_size": 1,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    film_settings: ClassVar[dict[str, Any]] = picture_settings | {
        "merge_size": 2,
        "size": {"shortest_edge": 16 * 16, "longest_edge": 4 * 40 * 40},
        "use_token_compression": True,
    }
    video_processor = "VideoLlama3VideoProcessor"

    def tokenizer(self) -> Any:
        return tokenizer(*MARKS)

    def model(self, tokens: Any) -> Any:
        marks = token_ids(tokens)
        config = VideoLlama3Config(
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 3,
                "num_attention_heads": 2,
                "patch_size": PATCH,
            },
            text_config=qwen2(tokens),
            image_token_id=marks["image_token_id"],
            video_token_id=marks["video_token_id"],
        )
        return VideoLlama3ForConditionalGeneration(config)

    def image_processor(self) -> Any:
        return VideoLlama3ImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        films.merge_size = 2
        return VideoLlama3Processor(self.image_processor(), tokens, films)

    def processed(self, films: Sequence[Views]) -> dict[str, Any]:
        joined = {
            name: torch.cat([item.inputs[name] for item in films]) for name in films[0].inputs
        }
        return joined | {"video_metadata": [metadata(len(item)) for item in films]}


class TestVideoLlama3(FilmTests):
    recipe = VideoLlama3Recipe()

    def test_patches_that_stay_the_same_are_left_out(self, made):
        frames = film(16, 32, 4, frames=1).repeat(3, 1, 1, 1)
        frames[1, :8, 24:] = 255
        views = made.family.film_views(frames, [0.0, 0.5, 1.25], 2.0)
        assert views.grid == (2, 4)
        kept = views.inputs["video_compression_mask"].view(3, 2, 4)
        assert kept[0].all()
        assert kept[1].tolist() == [[False, False, False, True], [False] * 4]
        assert kept[2].tolist() == [[False, False, False, True], [False] * 4]
        tokens = made.family.pack(made.family.project(made.family.encode([views]))[0])
        assert tokens.view.tolist() == [0] * 8 + [1, 2]
        assert tokens.box[8].tolist() == [0.75, 0.0, 1.0, 0.5]
        assert made.family.film_text(views, "x") == f"Time 0.0s:{'x' * 8},Time 0.5s:x,Time 1.2s:x"

    def test_a_frame_keeps_its_first_patch_at_least(self, made):
        frames = film(16, 16, 4, frames=1).repeat(2, 1, 1, 1)
        kept = made.family.film_views(frames, [0.0, 1.0], 2.0).inputs["video_compression_mask"]
        assert kept.view(2, -1).sum(1).tolist() == [4, 1]
