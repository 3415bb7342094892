"""InternVL 2.5 and 3 in transformers form: square tiles and a thumbnail, 2x2 patches put side by
side (pixel shuffle) before the projector.

Pictures and films share one placeholder and one tower call, in the order of the prompt; every
frame of a film is a single view behind its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from sparsight.core.tokens import FeatureMap, Views
from sparsight.vlm.families import pixels
from sparsight.vlm.families.base import Family, write_out

#: What holds where the checkpoint's own files are silent.
_DEFAULTS = {
    "size": {"height": 384, "width": 384},
    "image_mean": OPENAI_CLIP_MEAN,
    "image_std": OPENAI_CLIP_STD,
    "resample": 3,
    "min_patches": 1,
    "max_patches": 12,
}


class InternVL(Family):
    name = "internvl"
    label = "InternVL"
    model_types = ("internvl",)
    examples = ("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3-8B-hf")

    def stack(self, kind: str) -> nn.Module:
        found = nn.Module()
        found.layers = self.inner.vision_tower.encoder.layer
        return found

    # ---- from pixels to views ----------------------------------------------------------------

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        """Tiles row by row, then the thumbnail unless there is a single tile."""
        settings = pixels.settings_of(self.settings.picture, _DEFAULTS)
        tile = (settings["size"]["height"], settings["size"]["width"])
        size = (int(picture.shape[0]), int(picture.shape[1]))
        columns, rows = pixels.tile_grid(
            size, tile, settings["min_patches"], settings["max_patches"]
        )
        resample = settings["resample"]
        whole = pixels.resize(picture, (rows * tile[0], columns * tile[1]), resample)
        views = [
            whole[y * tile[0] : (y + 1) * tile[0], x * tile[1] : (x + 1) * tile[1]]
            for y in range(rows)
            for x in range(columns)
        ]
        boxes = [
            (x / columns, y / rows, (x + 1) / columns, (y + 1) / rows)
            for y in range(rows)
            for x in range(columns)
        ]
        roles = ["tile" if len(views) > 1 else "picture"] * len(views)
        if len(views) > 1:
            views.append(pixels.resize(picture, tile, resample))
            boxes.append((0.0, 0.0, 1.0, 1.0))
            roles.append("thumbnail")
        values = torch.stack([pixels.normalize(view, settings) for view in views])
        return self._views(values, boxes, [0.0] * len(views), roles, size)

    def film_views(self, frames: Tensor, times: Sequence[float], duration: float) -> Views:
        settings = pixels.settings_of(self.settings.film or self.settings.picture, _DEFAULTS)
        size = (int(frames.shape[1]), int(frames.shape[2]))
        side = (settings["size"]["height"], settings["size"]["width"])
        values = frames.permute(0, 3, 1, 2).contiguous()
        values = pixels.resize_frames(values, side, settings["resample"])
        values = pixels.normalize_frames(values, settings)
        boxes = [(0.0, 0.0, 1.0, 1.0)] * len(values)
        return self._views(values, boxes, times, ["frame"] * len(values), size)

    def _views(
        self,
        values: Tensor,
        boxes: Sequence[tuple[float, float, float, float]],
        times: Sequence[float],
        roles: Sequence[str],
        size: tuple[int, int],
    ) -> Views:
        tall, wide = self.config.vision_config.patch_size
        return Views(
            kind="image",
            inputs={"pixel_values": values},
            boxes=torch.tensor(boxes),
            times=torch.tensor(times, dtype=torch.float32),
            roles=tuple(roles),
            grid=(values.shape[-2] // tall, values.shape[-1] // wide),
            size=size,
        )

    # ---- the prompt --------------------------------------------------------------------------

    def expand(self, text: str, views: Sequence[Views]) -> str:
        marks = self.tokenizer
        ratio = self.config.downsample_ratio
        media = []
        for item in views:
            count = int(item.grid[0] * ratio * item.grid[1] * ratio)
            frames = item.roles.count("frame")
            labels = [f"Frame{place + 1}: " for place in range(frames)]
            labels += [""] * (len(item) - frames if frames else 1)
            tokens = marks.context_image_token * (count if frames else count * len(item))
            view = marks.start_image_token + tokens + marks.end_image_token
            mark = marks.video_token if frames else marks.context_image_token
            media.append((mark, "\n".join(label + view for label in labels)))
        return write_out(text, media)

    # ---- the tower and the connector ---------------------------------------------------------

    def tower_features(self, kind: str, pixels: Tensor) -> Tensor:
        layer = self.config.vision_feature_layer
        last = layer == -1
        out = self.inner.vision_tower(
            pixel_values=pixels.to(self.model.dtype), output_hidden_states=not last
        )
        return out.last_hidden_state if last else out.hidden_states[layer]

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        """Features (V, h, w, C) -> (V, h/2, w/2, D): every 2x2 patches become one token."""
        ratio = self.config.downsample_ratio
        shuffled = self.inner.pixel_shuffle(torch.cat([m.features for m in maps]), ratio)
        projected = self.inner.multi_modal_projector(shuffled.flatten(1, 2))
        projected = projected.unflatten(1, tuple(shuffled.shape[1:3]))
        parts = projected.split([len(item.views) for item in maps])
        side = round(1 / ratio)
        return [joined(item, part, side) for item, part in zip(maps, parts, strict=True)]


def joined(features: FeatureMap, projected: Tensor, side: int) -> FeatureMap:
    """A map whose every `side` x `side` patches became one token of `projected` (V, h', w', D).

    A token's box is the union of its patches' boxes; its time, weight and signals are their means.
    """

    def mean(value: Tensor) -> Tensor:  # (V, h, w, ...) -> (V, h', w', ...)
        return value.unflatten(2, (-1, side)).unflatten(1, (-1, side)).float().mean((2, 4))

    first = features.box[:, ::side, ::side]
    last = features.box[:, side - 1 :: side, side - 1 :: side]
    return replace(
        features,
        features=projected,
        box=torch.cat([first[..., :2], last[..., 2:]], -1),
        time=mean(features.time),
        weight=mean(features.weight),
        signals={name: mean(value) for name, value in features.signals.items()},
    )
