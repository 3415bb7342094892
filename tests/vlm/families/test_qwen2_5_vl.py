"""Qwen2.5-VL against Hugging Face."""

from __future__ import annotations

from typing import Any

import pytest
from harness import film
from test_qwen2_vl import PATCH, MropeTests, QwenRecipe, text_config, token_ids
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from sparsight.vlm.families.qwen2_5_vl import Qwen25VL


class Qwen25Recipe(QwenRecipe):
    family = Qwen25VL
    processor_class = Qwen2_5_VLProcessor

    def model(self, tokens: Any) -> Any:
        config = Qwen2_5_VLConfig(
            text_config=text_config(tokens),
            vision_config={
                "depth": 3,
                "hidden_size": 32,
                "out_hidden_size": 48,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": PATCH,
                "window_size": 16,
                "fullatt_block_indexes": [1],
                "tokens_per_second": 2,
            },
            **token_ids(tokens),
        )
        return Qwen2_5_VLForConditionalGeneration(config)


class TestQwen25VL(MropeTests):
    recipe = Qwen25Recipe()

    @pytest.mark.parametrize(
        ("duration", "ticks"), [(2.0, [0, 2]), (1.3, [0, 1]), (9.0, [0, 9]), (0.0, [0, 0])]
    )
    def test_the_temporal_axis_counts_seconds(self, made, duration, ticks):
        shown = [place * duration / 4 for place in range(4)]
        views = made.family.film_views(film(20, 24, 5), shown, duration)
        assert made.family.ticks(views).tolist() == ticks
