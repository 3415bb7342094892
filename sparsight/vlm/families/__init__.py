"""Families of Hugging Face checkpoints, by the model type in their configuration."""

from __future__ import annotations

import importlib
from typing import Any

from sparsight.core.errors import unknown
from sparsight.vlm.families.base import Family

#: Model type -> the file and class of its family; imported only when asked for.
_FAMILIES = {
    "llava": "llava:Llava",
    "llava_next": "llava_next:LlavaNext",
    "llava_next_video": "llava_next_video:LlavaNextVideo",
    "video_llava": "video_llava:VideoLlava",
    "llava_onevision": "llava_onevision:LlavaOnevision",
    "fast_vlm": "fast_vlm:FastVlm",
    "qwen2_vl": "qwen2_vl:Qwen2VL",
    "qwen2_5_vl": "qwen2_5_vl:Qwen25VL",
    "qwen3_vl": "qwen3_vl:Qwen3VL",
    "internvl": "internvl:InternVL",
    "smolvlm": "smolvlm:SmolVLM",
    "video_llama_3": "video_llama3:VideoLlama3",
}


def model_types() -> tuple[str, ...]:
    """The model types that can be loaded."""
    return tuple(_FAMILIES)


def family_of(model_type: str) -> type[Family]:
    """The family of a model type; an unknown one is a `UserError` that lists the known ones."""
    if model_type not in _FAMILIES:
        raise unknown("model type", model_type, _FAMILIES)
    module, name = _FAMILIES[model_type].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def family_for(config: Any) -> type[Family]:
    """The family of a checkpoint's configuration."""
    return family_of(str(getattr(config, "model_type", "")))
