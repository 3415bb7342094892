"""VideoLLaMA3: any resolution, film frames one by one behind their time, tokens of film patches
that hardly differ from the frame before left out.

A picture's patches are not merged, a film's 2x2 by default. Shapes: T frames, h w merged rows and
columns of a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from sparsight.core.slots import Need
from sparsight.core.tokens import FeatureMap, Views, feature_map
from sparsight.modules.towers import TowerMerge
from sparsight.vlm.families import pixels
from sparsight.vlm.families.qwen2_vl import Kind, PackedFamily, with_input


class VideoLlama3(PackedFamily):
    name = "videollama3"
    label = "VideoLLaMA3"
    model_types = ("video_llama_3",)
    examples = ("lkhl/VideoLLaMA3-2B-Image-HF", "lkhl/VideoLLaMA3-7B-Image-HF")
    picture_defaults: ClassVar[Mapping[str, Any]] = {
        "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
        "image_mean": IMAGENET_STANDARD_MEAN,
        "image_std": IMAGENET_STANDARD_STD,
        "patch_size": 14,
        "temporal_patch_size": 1,
        "merge_size": 1,
    }
    film_defaults: ClassVar[Mapping[str, Any]] = {
        **picture_defaults,
        "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        "merge_size": 2,
        "use_token_compression": True,
    }

    def tower(self, kind: str) -> nn.Module:
        return self.inner.vision_model

    def film_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        """All frames share the most pixels."""
        settings = self.film_settings()
        return pixels.smart_size(
            size,
            settings["patch_size"] * settings["merge_size"],
            settings["size"]["shortest_edge"],
            settings["size"]["longest_edge"] // frames,
        )

    def packed_views(
        self,
        kind: Kind,
        frames: Tensor,
        settings: Mapping[str, Any],
        times: Sequence[float],
        size: tuple[int, int],
    ) -> Views:
        views = super().packed_views(kind, frames, settings, times, size)
        merge = torch.tensor([settings["merge_size"]])
        views = with_input(views, f"{kind}_merge_sizes", merge)
        if kind == "image":
            return views
        cells = views.inputs["pixel_values_videos"]
        cells = cells.view(len(views), views.grid[0] * views.grid[1], -1)
        kept = torch.ones(cells.shape[:2], dtype=torch.bool)
        if settings["use_token_compression"]:
            kept = _changed(cells)
        return with_input(views, "video_compression_mask", kept.flatten())

    def batch_inputs(self, views: Sequence[Views]) -> Mapping[str, Tensor]:
        merges = f"{views[0].kind}_merge_sizes"
        sizes = torch.cat([item.inputs[merges] for item in views]).to(self.model.device)
        return {**super().batch_inputs(views), merges: sizes}

    def film_text(self, views: Views, token: str) -> str:
        counts = views.inputs["video_compression_mask"].view(len(views), -1).sum(1).tolist()
        frames = zip(views.times.tolist(), counts, strict=True)
        return ",".join(f"Time {second:.1f}s:{token * count}" for second, count in frames)

    def encode(
        self,
        views: Sequence[Views],
        needs: Sequence[Need] = (),
        merge: Callable[[int, int], TowerMerge] | None = None,
    ) -> list[FeatureMap]:
        """Run the tower, which merges patches at its end: features (T, h, w, C)."""
        patches, grids, merges = self.batch_inputs(views).values()
        out = self.inner.vision_model(
            pixel_values=patches.to(self.model.dtype), grid_thw=grids, merge_sizes=merges
        )
        sizes = [len(item) * item.grid[0] * item.grid[1] for item in views]
        return [
            feature_map(part.unflatten(0, (len(item), *item.grid)), item)
            for item, part in zip(views, out.last_hidden_state.split(sizes), strict=True)
        ]

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        flat = [item.features.flatten(0, 2) for item in maps]
        parts = self.inner.projector(torch.cat(flat)).split([len(part) for part in flat])
        return [
            item.with_features(part.unflatten(0, tuple(item.features.shape[:3])))
            for item, part in zip(maps, parts, strict=True)
        ]

    def layout(self, features: FeatureMap) -> Callable[[Tensor, Tensor | None], Tensor]:
        kept = features.views.inputs.get("video_compression_mask")
        if kept is None:
            return lambda x, separator: x.flatten(0, 2)
        return lambda x, separator: x.flatten(0, 2)[kept.to(x.device)]


def _changed(cells: Tensor, threshold: float = 0.1) -> Tensor:
    """Which cells (T, n, values) of each frame differ from the frame before: (T, n) bool.

    The first frame stays whole, and of every other one at least the first cell.
    """
    difference = (cells[1:] - cells[:-1]).abs().mean(-1) * 255
    changed = torch.cat([torch.ones_like(cells[:1, :, 0]).bool(), difference > threshold])
    changed[~changed.any(1), :1] = True
    return changed
