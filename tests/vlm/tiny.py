"""A tiny LLaVA-OneVision whose tower has a CLS token, and the families' recipes to build on."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

# The families' tests import each other by bare names; so does whoever borrows from them.
FAMILIES = Path(__file__).resolve().parent / "families"
if str(FAMILIES) not in sys.path:
    sys.path.insert(0, str(FAMILIES))

from harness import Recipe, checkpoint, film, picture  # noqa: E402
from templates import chatml  # noqa: E402
from test_llava_onevision import PATCH, PINPOINTS, SIDE, OnevisionRecipe  # noqa: E402
from transformers import (  # noqa: E402
    CLIPVisionConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
)

from sparsight.core.clip import Clip  # noqa: E402

__all__ = ["PATCH", "SIDE", "ClipOnevision", "Recipe", "chatml", "checkpoint", "film", "picture"]

WIDE, TALL = picture(40, 90, 1), picture(70, 31, 2)
QUESTION = "what is in it ?"


@cache
def movie(frames: int = 4, seed: int = 1) -> Clip:
    """A film of random frames, two a second."""
    return Clip.from_frames(film(48, 64, seed, frames), fps=2.0, origin=f"film {seed}")


def user(*parts: Any) -> dict[str, Any]:
    """A user's message of texts and media."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", "image": part}
            for part in parts
        ],
    }


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class ClipOnevision(OnevisionRecipe):
    """CLIP tower with CLS, five layers of LLM: every slot of every system has its place."""

    processor_settings: ClassVar[dict[str, Any]] = {
        **OnevisionRecipe.processor_settings,
        "vision_feature_select_strategy": "default",
    }

    def model(self, tokens: Any) -> Any:
        config = LlavaOnevisionConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=SIDE,
                patch_size=PATCH,
            ),
            text_config=Qwen2Config(
                hidden_size=64,
                intermediate_size=96,
                num_hidden_layers=5,
                num_attention_heads=4,
                num_key_value_heads=2,
                vocab_size=len(tokens),
                max_position_embeddings=1024,
            ),
            image_token_index=tokens.convert_tokens_to_ids("<image>"),
            video_token_index=tokens.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=PINPOINTS,
            vision_aspect_ratio="anyres_max_2",
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        )
        return LlavaOnevisionForConditionalGeneration(config)
