"""LLaVA-NeXT: a picture is a squeezed thumbnail and tiles of the best-fitting canvas.

The tiles' features are put side by side, the padding of the canvas is cut off, and a newline
ends every row. A film, which the checkpoint never saw in training, is a row of single square
views without newlines, as training-free video methods use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from sparsight.core.tokens import FeatureMap, Views
from sparsight.vlm.families import pixels
from sparsight.vlm.families.llava import CLIP_PICTURE, Llava

PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


class LlavaNext(Llava):
    name = "llava-next"
    label = "LLaVA-NeXT"
    model_types = ("llava_next",)
    examples = ("llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/llava-v1.6-vicuna-7b-hf")
    picture_defaults: ClassVar[Mapping[str, Any]] = {
        **CLIP_PICTURE,
        "image_grid_pinpoints": PINPOINTS,
    }
    pads = False

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the thumbnail before its last resize and crop."""
        size = self.picture_settings["size"]
        if size.get("height") and size.get("width"):
            return (size["height"], size["width"])
        return (size["shortest_edge"], size["shortest_edge"])

    @property
    def tile_side(self) -> int:
        settings = self.picture_settings
        return int((settings.get("crop_size") or {}).get("height") or self.base_size[0])

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        return self.anyres_views(picture, alone)

    def anyres_views(self, picture: Tensor, alone: bool) -> Views:
        """A picture (H, W, 3) uint8 -> the thumbnail, then the tiles row by row."""
        settings = self.picture_settings
        size = (int(picture.shape[0]), int(picture.shape[1]))
        canvas = select_best_resolution(size, settings["image_grid_pinpoints"])
        cut, areas = pixels.tiles(picture, canvas, self.tile_side, settings["resample"])
        base = pixels.resize(picture, self.base_size, settings["resample"])
        values = torch.stack(
            [pixels.normalize(pixels.cropped(view, settings), settings) for view in [base, *cut]]
        )
        return Views(
            kind="image",
            inputs={"pixel_values": values, "image_sizes": torch.tensor([size])},
            boxes=torch.tensor([(0.0, 0.0, 1.0, 1.0), *areas], dtype=torch.float32),
            times=torch.zeros(len(values)),
            roles=("thumbnail", *["tile"] * len(cut)),
            grid=self.grid(values.shape[-1]),
            size=size,
            alone=alone,
        )

    # ---- packing -----------------------------------------------------------------------------

    def newline(self, features: FeatureMap) -> bool:
        """Whether the packing of a medium holds newlines."""
        return features.views.roles[0] != "frame"

    def separator(self, features: FeatureMap) -> Tensor | None:
        return self.inner.image_newline if self.newline(features) else None

    def layout(self, features: FeatureMap) -> Callable[[Tensor, Tensor | None], Tensor]:
        if not self.newline(features):
            return super().layout(features)
        sizes = [list(features.views.size)]
        strategy = self.config.vision_feature_select_strategy

        def stitched(x: Tensor, separator: Tensor | None) -> Tensor:
            [rows], _ = self.inner.pack_image_features(
                [x.flatten(1, 2)],
                sizes,
                vision_feature_select_strategy=strategy,
                image_newline=separator,
            )
            return rows

        return stitched
