"""LLaVA-1.5: one square view a picture, CLIP features, a two-layer MLP, no separators.

A film is a row of frames in one place of the prompt: the checkpoint never saw one in training,
but this is how training-free video methods use it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sparsight.core.tokens import FeatureMap, Views, feature_map
from sparsight.vlm.families import pixels
from sparsight.vlm.families.base import Family, write_out

#: What the Hugging Face processors fall back to where a checkpoint's file leaves something out.
CLIP_PICTURE = {
    "do_pad": False,
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


class Llava(Family):
    name = "llava"
    label = "LLaVA-1.5"
    model_types = ("llava",)
    examples: ClassVar[tuple[str, ...]] = (
        "llava-hf/llava-1.5-7b-hf",
        "llava-hf/llava-1.5-13b-hf",
    )
    picture_defaults: ClassVar[Mapping[str, Any]] = CLIP_PICTURE
    default_frames = "uniform:4"  # a frame is 576 tokens of a context of 4096
    #: Whether the processor's `do_pad` makes a single view square (elsewhere it pads batches).
    pads: ClassVar[bool] = True
    #: Kind of placeholder that a film fills; "video" has a video processor of its own.
    film_kind: ClassVar[Literal["image", "video"]] = "image"

    @cached_property
    def picture_settings(self) -> dict[str, Any]:
        return pixels.settings_of(self.settings.picture, self.picture_defaults)

    @cached_property
    def film_settings(self) -> dict[str, Any]:
        """A checkpoint without a file for films prepares them as its pictures."""
        given = self.settings.film or self.settings.picture
        return pixels.settings_of(given, self.picture_defaults)

    # ---- from pixels to views ----------------------------------------------------------------

    def grid(self, side: int) -> tuple[int, int]:
        """Patches of a square view of `side` pixels."""
        patches = side // self.config.vision_config.patch_size
        return (patches, patches)

    def square(self, picture: Tensor) -> tuple[Tensor, tuple[float, float, float, float]]:
        """(H, W, 3) uint8 -> one view (3, S, S) and the area of the picture it covers."""
        settings = self.picture_settings
        size = (picture.shape[0], picture.shape[1])
        area = pixels.visible(size, settings)
        if self.pads and settings["do_pad"]:
            area = pixels.square_area(size)
            picture = pixels.pad_to_square(picture, settings["image_mean"])
        return pixels.normalize(pixels.cropped(picture, settings), settings), area

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        view, area = self.square(picture)
        return self.views("image", view[None], [area], [0.0], "picture", picture.shape, alone)

    def film_views(self, frames: Tensor, times: Sequence[float], duration: float) -> Views:
        size = frames.shape[1:3]
        if self.film_kind == "video":
            values = pixels.cropped_film(frames, self.film_settings)
            area = pixels.visible((size[0], size[1]), self.film_settings)
        else:
            made = [self.square(frame) for frame in frames]
            values, area = torch.stack([view for view, _ in made]), made[0][1]
        return self.views(self.film_kind, values, [area] * len(values), times, "frame", size)

    def views(
        self,
        kind: Literal["image", "video"],
        values: Tensor,
        areas: Sequence[Sequence[float]],
        times: Sequence[float],
        role: str,
        size: Sequence[int],
        alone: bool = True,
    ) -> Views:
        """Square views (V, 3, S, S) of one medium, all in the same role."""
        return Views(
            kind=kind,
            inputs={"pixel_values": values},
            boxes=torch.tensor(areas, dtype=torch.float32),
            times=torch.tensor(times, dtype=torch.float32),
            roles=(role,) * len(values),
            grid=self.grid(values.shape[-1]),
            size=(int(size[0]), int(size[1])),
            alone=alone,
        )

    # ---- the prompt --------------------------------------------------------------------------

    def mark(self, kind: str) -> str:
        """The placeholder of a kind as it is written in a prompt."""
        return self.tokenizer.convert_ids_to_tokens(self.placeholder(kind))

    def prompt_text(self, messages: Sequence[Mapping[str, Any]], generate: bool = True) -> str:
        if self.film_kind == "image":  # the template knows pictures alone
            messages = [_films_as_pictures(message) for message in messages]
        return super().prompt_text(messages, generate)

    def count(self, views: Views) -> int:
        """How many visual tokens a medium has, by the packing itself."""
        blank = torch.zeros(len(views), *views.grid, 1)
        return len(self.layout(feature_map(blank, views))(blank, torch.zeros(1)))

    def slots(self, features: FeatureMap) -> int:
        return self.count(features.views)

    def expand(self, text: str, views: Sequence[Views]) -> str:
        marks = [self.mark(item.kind) for item in views]
        counts = [self.count(item) for item in views]
        return write_out(text, [(m, m * n) for m, n in zip(marks, counts, strict=True)])


def _films_as_pictures(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if not isinstance(content, str):
        content = [{"type": "image"} if part["type"] == "video" else part for part in content]
    return {**message, "content": content}
