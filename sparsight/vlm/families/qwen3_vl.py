"""Qwen3-VL: Qwen2-VL with the time of every two frames written as text, and DeepStack.

Each temporal patch of a film is a run of placeholders of its own behind its timestamp. DeepStack
features travel as the map's `extra`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from sparsight.core.tokens import Views
from sparsight.vlm.families import pixels
from sparsight.vlm.families.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    name = "qwen3-vl"
    label = "Qwen3-VL"
    model_types = ("qwen3_vl",)
    examples = ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct")
    film_defaults: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "max_video_tokens": 768,
    }

    def film_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        """The limits count the pixels of the whole film, not of a frame."""
        settings = self.film_settings()
        group = settings["temporal_patch_size"]
        frames = max(frames, group)
        low, high = settings["size"]["shortest_edge"], settings["size"]["longest_edge"]
        factor = settings["patch_size"] * settings["merge_size"]
        if settings.get("cap_pixels_per_frame"):
            most = settings["max_video_tokens"] * factor * factor
            high = max(min(most, high // frames), int(low * 1.05)) * frames
        return pixels.smart_film_size(frames, size, factor, group, low, high)

    def film_text(self, views: Views, token: str) -> str:
        frame = "<|vision_start|>" + token * (views.grid[0] * views.grid[1]) + "<|vision_end|>"
        return "".join(f"<{second:.1f} seconds>{frame}" for second in views.times.tolist())
