"""Qwen2.5-VL: Qwen2-VL with windowed attention and a temporal axis that counts real time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsight.core.tokens import Views
from sparsight.vlm.families.qwen2_vl import Qwen2VL, with_input


class Qwen25VL(Qwen2VL):
    name = "qwen2.5-vl"
    label = "Qwen2.5-VL"
    model_types = ("qwen2_5_vl",)
    examples = ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct")

    def film_views(self, frames: Tensor, times: Sequence[float], duration: float) -> Views:
        views = super().film_views(frames, times, duration)
        # The frames count as spread evenly over the whole film, as the processor has it.
        rate = len(times) / duration if duration > 0 else 24.0
        seconds = self.film_settings()["temporal_patch_size"] / rate
        return with_input(views, "second_per_grid_ts", torch.tensor([seconds]))

    def ticks(self, views: Views) -> Tensor:
        """`tokens_per_second` ticks a second; in float32, as the model's own code rounds."""
        if views.kind == "image":
            return super().ticks(views)
        seconds = views.inputs["second_per_grid_ts"][0]
        index = torch.arange(len(views), device=seconds.device)
        return (index * (self.config.vision_config.tokens_per_second * seconds)).long()
