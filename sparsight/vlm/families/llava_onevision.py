"""LLaVA-OneVision: one picture alone is any-res, several get one padded view each, films are
pooled two by two and end with a newline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.modeling_llava_onevision import unpad_image

from sparsight.core.tokens import FeatureMap, Views, VisualTokens
from sparsight.vlm.families import pixels
from sparsight.vlm.families.llava import CLIP_PICTURE
from sparsight.vlm.families.llava_next import LlavaNext

PINPOINTS = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]


class LlavaOnevision(LlavaNext):
    name = "llava-onevision"
    label = "LLaVA-OneVision"
    model_types = ("llava_onevision",)
    examples = (
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    )
    default_frames = "uniform:8"
    film_kind = "video"
    picture_defaults: ClassVar[Mapping[str, Any]] = {
        **CLIP_PICTURE,
        "size": {"height": 384, "width": 384},
        "do_center_crop": None,
        "crop_size": None,
        "image_grid_pinpoints": PINPOINTS,
    }

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        if alone:
            return self.anyres_views(picture, alone)
        settings = self.picture_settings
        size = (int(picture.shape[0]), int(picture.shape[1]))
        square = pixels.pad_to_square(picture, settings["image_mean"])
        values = pixels.normalize(pixels.cropped(square, settings), settings)[None]
        views = self.views(
            "image", values, [pixels.square_area(size)], [0.0], "picture", size, alone
        )
        return replace(views, inputs={"pixel_values": values, "image_sizes": torch.tensor([size])})

    # ---- packing -----------------------------------------------------------------------------

    def newline(self, features: FeatureMap) -> bool:
        return True

    def layout(self, features: FeatureMap) -> Callable[[Tensor, Tensor | None], Tensor]:
        if features.views.kind == "video":
            return self._film
        sizes = [list(features.views.size)]

        def stitched(x: Tensor, separator: Tensor | None) -> Tensor:
            [rows], _ = self.inner.pack_image_features(
                [x.flatten(1, 2)],
                sizes,
                image_newline=separator,
                vision_aspect_ratio=self.config.vision_aspect_ratio,
            )
            return rows

        return stitched

    def _film(self, x: Tensor, separator: Tensor | None) -> Tensor:
        rows = self.inner.apply_pooling(x.flatten(1, 2)).flatten(0, 1)
        return rows if separator is None else torch.cat([rows, separator[None].to(rows)])

    def pack(self, features: FeatureMap) -> VisualTokens:
        """Pooling averages boxes, so they are widened first to cover all that is pooled."""
        return super().pack(replace(features, box=self._widened(features)))

    def _widened(self, features: FeatureMap) -> Tensor:
        height, width = features.views.grid
        if features.views.kind == "video":
            factors = (height / math.ceil(height / 2), width / math.ceil(width / 2))
            return pixels.widened(features.box, factors)
        if len(features.views) == 1:
            return features.box
        side = self.tile_side
        canvas = select_best_resolution(features.views.size, self.config.image_grid_pinpoints)
        whole = torch.empty(1, canvas[0] // side * height, canvas[1] // side * width)
        _, rows, columns = unpad_image(whole, features.views.size).shape
        blank = features.features.new_zeros(*features.features.shape[:3], 1)
        packed = self.layout(features)(blank, blank.new_ones(1))
        lines = int(packed.sum())  # the packing ends each row of its own grid with a newline
        width_packed = (len(packed) - height * width) // lines - 1
        tiles = pixels.widened(features.box[1:], (rows / lines, columns / width_packed))
        return torch.cat([features.box[:1], tiles])
