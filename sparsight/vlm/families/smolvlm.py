"""SmolVLM: a picture cut into square tiles behind their row and column, then the whole of it; a
film as square frames behind their times. Pixel shuffle joins patches before the projection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from sparsight.core.tokens import FeatureMap, Views
from sparsight.vlm.families import pixels
from sparsight.vlm.families.base import Family, write_out
from sparsight.vlm.families.internvl import joined

_LONGEST = 4096  # no picture is made larger than this
#: What holds where the checkpoint's own files are silent; resample 1 is Lanczos.
_DEFAULTS = {
    "size": {"longest_edge": 4 * 364},
    "max_image_size": {"longest_edge": 364},
    "image_mean": IMAGENET_STANDARD_MEAN,
    "image_std": IMAGENET_STANDARD_STD,
    "resample": 1,
}


class SmolVLM(Family):
    name = "smolvlm"
    label = "SmolVLM"
    model_types = ("smolvlm",)
    examples = (
        "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    )

    @property
    def decoder(self) -> nn.Module:
        return self.inner.text_model

    def tower(self, kind: str) -> nn.Module:
        return self.inner.vision_model

    def has_cls(self, kind: str) -> bool:
        return False

    def producer(self, kind: str) -> int:
        return len(self.blocks(kind)) - 1

    def marks(self) -> frozenset[str]:
        return super().marks() | {self._mark("image_token"), self._mark("video_token")}

    # ---- from pixels to views ----------------------------------------------------------------

    def picture_views(self, picture: Tensor, alone: bool) -> Views:
        """Tiles row by row, then the whole picture; a picture that fills no two tiles is whole."""
        settings = pixels.settings_of(self.settings.picture, _DEFAULTS)
        size = (int(picture.shape[0]), int(picture.shape[1]))
        side = settings["max_image_size"]["longest_edge"]
        resample = settings["resample"]
        if settings.get("do_resize", True):
            target = _bounded(_longest(size, settings["size"]["longest_edge"]), _LONGEST)
            picture = pixels.resize(picture, target, resample)
        rows = columns = 0
        if settings.get("do_image_splitting", True):
            tall, wide = _multiples((int(picture.shape[0]), int(picture.shape[1])), side)
            picture = pixels.resize(picture, (tall, wide), resample)
            if max(tall, wide) > side:
                rows, columns = tall // side, wide // side
        places = [(y, x) for y in range(rows) for x in range(columns)]
        views = [picture[y * side : (y + 1) * side, x * side : (x + 1) * side] for y, x in places]
        views.append(pixels.resize(picture, (side, side), resample))
        boxes = [(x / columns, y / rows, (x + 1) / columns, (y + 1) / rows) for y, x in places]
        boxes.append((0.0, 0.0, 1.0, 1.0))
        roles = ["tile"] * len(places) + ["thumbnail" if places else "picture"]
        values = torch.stack([pixels.normalize(view, settings) for view in views])
        return self._views(values, boxes, [0.0] * len(views), roles, size)

    def film_views(self, frames: Tensor, times: Sequence[float], duration: float) -> Views:
        given = self.settings.film or self.settings.picture
        if "size" not in given and "video_sampling" in given:
            given = {**given, "size": given["video_sampling"]["video_size"]}
        settings = pixels.settings_of(given, _DEFAULTS)
        size = (int(frames.shape[1]), int(frames.shape[2]))
        side = settings["max_image_size"]["longest_edge"]
        resample = settings["resample"]
        values = frames.permute(0, 3, 1, 2).contiguous()
        if settings.get("do_resize", True):
            target = _longest(size, min(settings["size"]["longest_edge"], _LONGEST))
            values = pixels.resize_frames(values, target, resample)
            values = pixels.resize_frames(values, (side, side), resample)
        values = pixels.normalize_frames(values, settings)
        boxes = [(0.0, 0.0, 1.0, 1.0)] * len(values)
        roles = ["frame"] * len(values)
        return self._views(values, boxes, times, roles, size, duration)

    def _views(
        self,
        values: Tensor,
        boxes: Sequence[tuple[float, float, float, float]],
        times: Sequence[float],
        roles: Sequence[str],
        size: tuple[int, int],
        duration: float = 0.0,
    ) -> Views:
        patch = self.config.vision_config.patch_size
        return Views(
            kind="image",
            inputs={"pixel_values": values, "duration": torch.tensor(duration)},
            boxes=torch.tensor(boxes),
            # Seconds are written into the prompt: float32 would round some the other way.
            times=torch.tensor(times, dtype=torch.float64),
            roles=tuple(roles),
            grid=(values.shape[-2] // patch, values.shape[-1] // patch),
            size=size,
        )

    # ---- the prompt --------------------------------------------------------------------------

    def prompt_text(self, messages: Sequence[Mapping[str, Any]], generate: bool = True) -> str:
        """A film needs a template that knows films, which the older checkpoints' own does not."""
        template = self.settings.chat_template
        if any(part["type"] == "video" for message in messages for part in message["content"]):
            from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

            template = DEFAULT_CHAT_TEMPLATE
        return self.tokenizer.apply_chat_template(
            list(messages),
            chat_template=template,
            tokenize=False,
            add_generation_prompt=generate,
        )

    def expand(self, text: str, views: Sequence[Views]) -> str:
        image, film = self._mark("image_token"), self._mark("video_token")
        media = [
            (film, self._film_text(item))
            if "frame" in item.roles
            else (image, self._picture_text(item))
            for item in views
        ]
        return write_out(text, media)

    def _mark(self, name: str) -> str:
        return getattr(self.tokenizer, name, None) or _MARKS[name]

    def _view(self, views: Views, label: str) -> str:
        """One view's placeholders behind its label."""
        factor = self.config.scale_factor
        count = views.grid[0] * views.grid[1] // factor**2
        return self._mark("fake_image_token") + label + self._mark("image_token") * count

    def _whole(self, views: Views) -> str:
        return self._view(views, self._mark("global_image_token")) + self._mark("fake_image_token")

    def _picture_text(self, views: Views) -> str:
        tiles = views.boxes[: len(views) - 1, :2].tolist()
        if not tiles:
            return self._whole(views)
        columns = sum(y == 0 for _, y in tiles)
        text = ""
        for place in range(len(tiles)):
            row, column = divmod(place, columns)
            text += self._view(views, f"<row_{row + 1}_col_{column + 1}>")
            text += "\n" if column == columns - 1 else ""
        return f"{text}\n{self._whole(views)}"

    def _film_text(self, views: Views) -> str:
        frames = views.roles.count("frame")
        length = timedelta(seconds=int(views.inputs["duration"]))
        text = (
            f"You are provided the following series of {in_words(frames)} frames "
            f"from a {length} [H:MM:SS] video.\n"
        )
        for second, role in zip(views.times.tolist(), views.roles, strict=True):
            if role == "frame":
                text += f"\nFrame from {int(second // 60):02d}:{int(second % 60):02d}:"
            text += self._whole(views)
        return f"{text}\n\n"

    # ---- the tower and the connector ---------------------------------------------------------

    def tower_features(self, kind: str, pixels: Tensor) -> Tensor:
        return self.inner.vision_model(pixel_values=pixels.to(self.model.dtype)).last_hidden_state

    def project(self, maps: Sequence[FeatureMap]) -> list[FeatureMap]:
        """Features (V, h, w, C) -> (V, h/f, w/f, D): every f x f patches become one token."""
        factor = self.config.scale_factor
        rows, columns = maps[0].features.shape[1:3]
        projected = self.inner.connector(torch.cat([m.features.flatten(1, 2) for m in maps]))
        projected = projected.unflatten(1, (rows // factor, columns // factor))
        parts = projected.split([len(item.views) for item in maps])
        return [joined(item, part, factor) for item, part in zip(maps, parts, strict=True)]


_MARKS = {
    "image_token": "<image>",
    "video_token": "<video>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
}


def _longest(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """The (height, width) whose longer side is `edge` and whose shorter side is even."""
    height, width = size
    shape = width / height
    if width >= height:
        short = int(edge / shape)
        return max(short + short % 2, 1), edge
    short = int(edge * shape)
    return edge, max(short + short % 2, 1)


def _bounded(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """The (height, width) cut down so that neither side is above `edge`."""
    height, width = size
    if max(size) <= edge:
        return size
    shape = width / height
    if width >= height:
        return max(int(edge / shape), 1), edge
    return edge, max(int(edge * shape), 1)


def _multiples(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The (height, width) in whole tiles that keeps the shape best."""
    height, width = size
    shape = width / height
    if width >= height:
        width = math.ceil(width / side) * side
        height = math.ceil(int(width / shape) / side) * side
    else:
        height = math.ceil(height / side) * side
        width = math.ceil(int(height * shape) / side) * side
    return height, width


_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(number: int) -> str:
    """A whole number below a million in English words: 123 is "one hundred and twenty-three"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        ten, one = divmod(number, 10)
        return _TENS[ten - 2] + (f"-{_ONES[one]}" if one else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    many, rest = divmod(number, size)
    text = f"{in_words(many)} {name}"
    if not rest:
        return text
    return f"{text}{' and ' if rest < 100 else ', '}{in_words(rest)}"
