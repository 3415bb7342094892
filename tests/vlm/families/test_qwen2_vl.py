"""Qwen2-VL against Hugging Face, and what its successors' tests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
import transformers
from harness import FilmTests, Recipe, film, ours, picture, theirs, tokenizer
from transformers import (
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)
from transformers.video_utils import VideoMetadata

from sparsight.core.errors import UserError
from sparsight.core.tokens import Views
from sparsight.vlm.families.base import VisualRun
from sparsight.vlm.families.qwen2_vl import Qwen2VL

PATCH = 4

TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)


def text_config(tokens: Any, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "vocab_size": len(tokens),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 3, 3],
        },
        **more,
    }


def token_ids(tokens: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokens.convert_tokens_to_ids(mark) for name, mark in names.items()}


class QwenRecipe(Recipe):
    """What the recipes of all versions share."""

    chat_template = TEMPLATE
    picture_settings: ClassVar[dict[str, Any]] = {
        "min_pixels": 16 * 16,
        "max_pixels": 40 * 40,
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    film_settings = picture_settings
    video_processor = "Qwen2VLVideoProcessor"
    processor_class: ClassVar[type]

    def tokenizer(self) -> Any:
        return tokenizer(*MARKS)

    def image_processor(self) -> Any:
        return Qwen2VLImageProcessorPil(**self.picture_settings)

    def processor(self, tokens: Any, films: Any) -> Any:
        films.merge_size = films.temporal_patch_size = 2
        return self.processor_class(self.image_processor(), tokens, films)

    def processed(self, films: Sequence[Views]) -> dict[str, Any]:
        names = [name for name in films[0].inputs if name != "second_per_grid_ts"]
        joined = {name: torch.cat([item.inputs[name] for item in films]) for name in names}
        return joined | {"video_metadata": [metadata(2 * len(item)) for item in films]}


def metadata(frames: int) -> VideoMetadata:
    """Frames two a second, as the harness shows them."""
    return VideoMetadata(
        total_num_frames=frames,
        fps=2.0,
        duration=frames / 2,
        frames_indices=list(range(frames)),
    )


class MropeTests(FilmTests):
    """What holds for every version."""

    def test_positions_equal_the_models_own(self, made, case):
        batch, _ = ours(made.family, case)
        inputs = theirs(made, case)
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw")
        grids = {name: inputs[name] for name in (*names, "second_per_grid_ts") if name in inputs}
        expected, _ = made.model.model.get_rope_index(
            **grids, attention_mask=inputs["attention_mask"]
        )
        mask = batch.mask.bool()
        assert torch.equal(batch.positions[:, mask], expected[:, mask])

    def test_a_packing_without_a_grid_counts_on_like_text(self, made):
        blind = VisualRun(torch.zeros(4, 3).long(), torch.zeros(4), "video")
        positions = made.family.positions([2, blind, 1])
        assert positions.tolist() == [list(range(7))] * 3

    def test_a_packing_on_another_grid_spreads_over_it(self, made):
        grid = torch.cartesian_prod(torch.arange(3), torch.arange(1), torch.arange(2))
        positions = made.family.positions([2, VisualRun(grid, torch.zeros(6), "video"), 1])
        assert positions[0].tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 4]
        assert positions[1].tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 4]
        assert positions[2].tolist() == [0, 1, 2, 3, 2, 3, 2, 3, 4]

    def test_a_picture_that_is_too_narrow_is_refused(self, made):
        with pytest.raises(UserError, match="800x2 is too narrow"):
            made.family.picture_views(picture(2, 800), alone=True)

    def test_a_mark_in_the_text_is_refused(self, made):
        views = made.family.picture_views(picture(20, 30), alone=True)
        with pytest.raises(UserError, match="2 times for 1 media"):
            made.family.expand("<|image_pad|> what is <|image_pad|>", [views])

    def test_an_odd_film_repeats_its_last_frame(self, made):
        views = made.family.film_views(film(20, 24, 5, frames=3), [0.0, 0.5, 1.0], 1.5)
        assert views.times.tolist() == [0.25, 1.0]
        *_, pair = views.inputs["pixel_values_videos"].chunk(2)
        first, second = pair.view(len(pair), 3, 2, -1).unbind(2)
        assert torch.equal(first, second)


class Qwen2Recipe(QwenRecipe):
    family = Qwen2VL
    processor_class = Qwen2VLProcessor

    def model(self, tokens: Any) -> Any:
        config = Qwen2VLConfig(
            text_config=text_config(tokens),
            vision_config={
                "depth": 2,
                "embed_dim": 32,
                "hidden_size": 48,
                "num_heads": 2,
                "mlp_ratio": 2,
                "patch_size": PATCH,
            },
            **token_ids(tokens),
        )
        return Qwen2VLForConditionalGeneration(config)


class TestQwen2VL(MropeTests):
    recipe = Qwen2Recipe()

    @pytest.mark.parametrize("frames", [1, 4, 40])
    def test_a_cap_on_the_whole_film_is_the_processors(self, made, torchvision, frames):
        capped = {"cap_pixels_per_frame": True, "max_video_tokens": 60}
        settings = replace(made.family.settings, film=made.family.settings.film | capped)
        family = Qwen2VL(made.model, made.family.tokenizer, settings)
        clip = film(48, 64, frames=frames)
        processor = transformers.Qwen2VLVideoProcessor(**settings.film)
        expected = processor([clip.numpy()], do_sample_frames=False, return_tensors="pt")
        views = family.film_views(clip, [0.0] * frames, 2.0)
        assert torch.equal(views.inputs["video_grid_thw"], expected["video_grid_thw"])
