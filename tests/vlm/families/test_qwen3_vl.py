"""Qwen3-VL against Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
import transformers
from harness import CASES, film, ours
from test_qwen2_vl import MropeTests, QwenRecipe, text_config, token_ids
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from sparsight.vlm.families.qwen3_vl import Qwen3VL

PATCH = 4


class Qwen3Recipe(QwenRecipe):
    family = Qwen3VL
    processor_class = Qwen3VLProcessor
    picture_settings: ClassVar[dict[str, Any]] = {
        "size": {"shortest_edge": 16 * 16, "longest_edge": 40 * 40},
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    film_settings: ClassVar[dict[str, Any]] = picture_settings | {
        "size": {"shortest_edge": 4 * 16 * 16, "longest_edge": 4 * 40 * 40}
    }

    video_processor = "Qwen3VLVideoProcessor"

    def model(self, tokens: Any) -> Any:
        config = Qwen3VLConfig(
            text_config=text_config(tokens, head_dim=16, num_hidden_layers=4),
            vision_config={
                "depth": 3,
                "hidden_size": 32,
                "out_hidden_size": 48,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": PATCH,
                "num_position_embeddings": 36,
                "deepstack_visual_indexes": [0, 1],
            },
            **token_ids(tokens),
        )
        return Qwen3VLForConditionalGeneration(config)


class TestQwen3VL(MropeTests):
    recipe = Qwen3Recipe()

    def test_each_pair_of_frames_stands_behind_its_time(self, made):
        views = made.family.film_views(film(20, 24, 5), [0.0, 0.5, 3.0, 3.29], 4.0)
        text = made.family.film_text(views, "x").split("<|vision_start|>")
        assert text[0] == "<0.2 seconds>"
        assert text[1].endswith("<|vision_end|><3.1 seconds>")

    def test_deepstack_features_follow_the_packing(self, made):
        batch, _ = ours(made.family, CASES["picture_and_film"])
        assert len(batch.extra) == 2
        assert all(len(more) == int((batch.medium >= 0).sum()) for more in batch.extra)

    @pytest.mark.parametrize("frames", [2, 4, 40])
    def test_a_cap_on_each_frame_is_the_processors(self, made, torchvision, frames):
        capped = {"cap_pixels_per_frame": True, "max_video_tokens": 20}
        settings = replace(made.family.settings, film=made.family.settings.film | capped)
        family = Qwen3VL(made.model, made.family.tokenizer, settings)
        clip = film(48, 64, frames=frames)
        processor = transformers.Qwen3VLVideoProcessor(**settings.film)
        expected = processor([clip.numpy()], do_sample_frames=False, return_tensors="pt")
        views = family.film_views(clip, [0.0] * frames, 2.0)
        assert torch.equal(views.inputs["video_grid_thw"], expected["video_grid_thw"])

    def test_a_lone_frame_counts_as_two(self, made):
        views = made.family.film_views(film(20, 24, frames=1), [0.5], 1.0)
        assert views.times.tolist() == [0.5]
        assert views.inputs["video_grid_thw"][0, 0] == 1
