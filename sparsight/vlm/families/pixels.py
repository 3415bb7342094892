"""Preprocessing without torchvision: PIL resizing, padding, cropping, normalisation.

Pictures are (H, W, 3) uint8 until they have their final size; only then do they become float.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparsight.core.errors import UserError

_RESAMPLE = {item.value: item for item in Image.Resampling}
#: torchvision resizes films with Lanczos from the version that came with torch 2.12.
_HAS_LANCZOS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 12)


def resize(picture: Tensor, size: tuple[int, int], resample: int = 3) -> Tensor:
    """Resize (H, W, 3) uint8 to (height, width) with a PIL filter (3 is bicubic)."""
    if tuple(picture.shape[:2]) == tuple(size):
        return picture
    image = Image.fromarray(picture.numpy())
    small = image.resize((size[1], size[0]), _RESAMPLE[resample])
    return torch.from_numpy(np.asarray(small).copy())


def shortest_edge(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """The (height, width) whose shorter side is `edge`, the longer one cut to a whole number."""
    height, width = size
    short, long = min(size), max(size)
    longer = int(edge * long / short)
    return (edge, longer) if height <= width else (longer, edge)


def center_crop(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut (or zero-pad) (H, W, 3) to (height, width) around the centre."""
    height, width = picture.shape[:2]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    if top >= 0 and left >= 0:
        return picture[top : top + size[0], left : left + size[1]]
    tall, wide = max(size[0], height), max(size[1], width)
    padded = picture.new_zeros(tall, wide, 3)
    down, right = -((height - tall) // 2), -((width - wide) // 2)
    padded[down : down + height, right : right + width] = picture
    top, left = (tall - size[0]) // 2, (wide - size[1]) // 2
    return padded[top : top + size[0], left : left + size[1]]


def normalize(picture: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32, rescaled and normalised as the settings say."""
    values = picture.numpy()
    if settings.get("do_rescale", True):
        factor = settings.get("rescale_factor", 1 / 255)
        values = (values.astype(np.float64) * factor).astype(np.float32)
    if settings.get("do_normalize", True):
        values = values.astype(np.float32, copy=False)
        mean = np.array(settings["image_mean"], dtype=np.float32)
        std = np.array(settings["image_std"], dtype=np.float32)
        values = (values - mean) / std
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def pad_to_square(picture: Tensor, color: Sequence[float]) -> Tensor:
    """Centre (H, W, 3) uint8 on a square of one colour given in 0..1."""
    height, width = picture.shape[:2]
    if height == width:
        return picture
    side = max(height, width)
    square = torch.tensor([int(value * 255) for value in color], dtype=torch.uint8)
    square = square.expand(side, side, 3).clone()
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def smart_size(size: tuple[int, int], factor: int, low: int, high: int) -> tuple[int, int]:
    """The (height, width) in multiples of `factor` whose area lies within `low` and `high` pixels
    and whose shape is as close to `size` as that allows."""
    height, width = size
    if max(size) > 200 * min(size):
        raise UserError(
            f"a picture of {width}x{height} is too narrow for this model: crop it to 200:1 or less"
        )
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > high:
        scale = math.sqrt(height * width / high)
        tall = max(factor, math.floor(height / scale / factor) * factor)
        wide = max(factor, math.floor(width / scale / factor) * factor)
    elif tall * wide < low:
        scale = math.sqrt(low / (height * width))
        tall = math.ceil(height * scale / factor) * factor
        wide = math.ceil(width * scale / factor) * factor
    return tall, wide


def resize_frames(frames: Tensor, size: tuple[int, int], resample: int = 3) -> Tensor:
    """Resize (T, 3, H, W) uint8 to (height, width) as the video processors do: with torch's own
    antialiased filters, whose last digits differ from PIL's."""
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    mode = {1: "lanczos", 2: "bilinear", 3: "bicubic"}[resample]
    if mode == "lanczos" and not _HAS_LANCZOS:
        mode = "bicubic"
    return torch.nn.functional.interpolate(
        frames, size=size, mode=mode, antialias=True, align_corners=False
    )


def normalize_frames(frames: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """(T, 3, H, W) uint8 -> float32, rescaled and normalised in one step as the video processors
    do."""
    values = frames.to(torch.float32)
    rescale = settings.get("do_rescale", True)
    factor = settings.get("rescale_factor", 1 / 255)
    if not settings.get("do_normalize", True):
        return values * factor if rescale else values
    mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
    if rescale:
        mean, std = mean * (1.0 / factor), std * (1.0 / factor)
    return values.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


def patchify(frames: Tensor, patch: int, temporal: int, merge: int) -> Tensor:
    """Cut (T, 3, H, W) into flat patches (T/temporal * H/patch * W/patch, 3 * temporal * patch^2).

    The patches that the model merges (`merge` x `merge`) follow one another. A number of frames
    that `temporal` does not divide is filled up with the last one.
    """
    missing = -len(frames) % temporal
    if missing:
        frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
    count, channels, height, width = frames.shape
    cells = frames.reshape(
        count // temporal,
        temporal,
        channels,
        height // patch // merge,
        merge,
        patch,
        width // patch // merge,
        merge,
        patch,
    ).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cells.reshape(-1, channels * temporal * patch * patch)


def smart_film_size(
    frames: int, size: tuple[int, int], factor: int, group: int, low: int, high: int
) -> tuple[int, int]:
    """`smart_size` for limits that count the pixels of all frames of a film together; frames
    smaller than `factor` are enlarged first, and `group` frames share a temporal patch."""
    height, width = size
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    if max(height, width) > 200 * min(height, width):
        raise UserError(
            f"a film of {width}x{height} is too narrow for this model: crop it to 200:1 or less"
        )
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    area = round(frames / group) * group * tall * wide
    if area > high:
        scale = math.sqrt(frames * height * width / high)
        tall = max(factor, math.floor(height / scale / factor) * factor)
        wide = max(factor, math.floor(width / scale / factor) * factor)
    elif area < low:
        scale = math.sqrt(low / (frames * height * width))
        tall = math.ceil(height * scale / factor) * factor
        wide = math.ceil(width * scale / factor) * factor
    return tall, wide


def settings_of(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A processor's settings over its class's defaults, with sizes as dictionaries.

    Old files write `size: 336` for the shortest edge and `crop_size: 336` for a square.
    """
    settings = {**defaults, **{name: value for name, value in given.items() if value is not None}}
    if isinstance(settings.get("size"), int):
        settings["size"] = {"shortest_edge": settings["size"]}
    if isinstance(settings.get("crop_size"), int):
        side = settings["crop_size"]
        settings["crop_size"] = {"height": side, "width": side}
    return settings


def target_size(size: tuple[int, int], wanted: Mapping[str, int]) -> tuple[int, int]:
    """The (height, width) that a picture of `size` is resized to under a `size` setting."""
    if wanted.get("shortest_edge"):
        return shortest_edge(size, wanted["shortest_edge"])
    return (wanted["height"], wanted["width"])


def cropped(picture: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Resize and centre-crop (H, W, 3) uint8 as the settings say."""
    if settings.get("do_resize", True):
        size = target_size((picture.shape[0], picture.shape[1]), settings["size"])
        picture = resize(picture, size, settings["resample"])
    if settings.get("do_center_crop"):
        crop = settings["crop_size"]
        picture = center_crop(picture, (crop["height"], crop["width"]))
    return picture


def cropped_film(frames: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Frames (T, H, W, 3) uint8 -> (T, 3, S, S) float32 as a plain video processor does it."""
    video = frames.permute(0, 3, 1, 2).contiguous()
    if settings.get("do_resize", True):
        size = target_size((video.shape[2], video.shape[3]), settings["size"])
        video = resize_frames(video, size, settings["resample"])
    if settings.get("do_center_crop"):
        crop = settings["crop_size"]
        video = torch.stack(
            [
                center_crop(frame.permute(1, 2, 0), (crop["height"], crop["width"]))
                for frame in video
            ]
        ).permute(0, 3, 1, 2)
    return normalize_frames(video, settings)


def visible(
    size: tuple[int, int], settings: Mapping[str, Any]
) -> tuple[float, float, float, float]:
    """The area of a (height, width) picture that `cropped` shows, beyond 0..1 where it pads."""
    height, width = size
    if settings.get("do_resize", True):
        height, width = target_size(size, settings["size"])
    if not settings.get("do_center_crop"):
        return (0.0, 0.0, 1.0, 1.0)
    tall, wide = settings["crop_size"]["height"], settings["crop_size"]["width"]
    x, y = (width - wide) // 2 / width, (height - tall) // 2 / height
    return (x, y, x + wide / width, y + tall / height)


def square_area(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The area of a (height, width) picture that `pad_to_square` covers."""
    height, width = size
    side = max(size)
    x, y = -((side - width) // 2) / width, -((side - height) // 2) / height
    return (x, y, x + side / width, y + side / height)


def tiles(
    picture: Tensor, canvas: tuple[int, int], side: int, resample: int
) -> tuple[list[Tensor], list[tuple[float, float, float, float]]]:
    """Fit (H, W, 3) uint8 into the middle of a black canvas and cut it into square tiles.

    Returns the tiles row by row and the area of the picture each covers, beyond 0..1 where it
    holds padding.
    """
    height, width = picture.shape[:2]
    tall, wide = canvas
    if wide / width < tall / height:
        fitted = (min(math.ceil(height * (wide / width)), tall), wide)
    else:
        fitted = (tall, min(math.ceil(width * (tall / height)), wide))
    top, left = (tall - fitted[0]) // 2, (wide - fitted[1]) // 2
    padded = picture.new_zeros(tall, wide, 3)
    padded[top : top + fitted[0], left : left + fitted[1]] = resize(picture, fitted, resample)
    cut, areas = [], []
    for y in range(0, tall, side):
        for x in range(0, wide, side):
            cut.append(padded[y : y + side, x : x + side])
            x0, y0 = (x - left) / fitted[1], (y - top) / fitted[0]
            areas.append((x0, y0, x0 + side / fitted[1], y0 + side / fitted[0]))
    return cut, areas


def widened(box: Tensor, factors: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) grown around their middles by (height, width) factors.

    The mean of neighbouring boxes has their common middle but a single box's size.
    """
    middle = (box[..., :2] + box[..., 2:]) / 2
    half = (box[..., 2:] - box[..., :2]) / 2 * box.new_tensor([factors[1], factors[0]])
    return torch.cat([middle - half, middle + half], -1)


def tile_grid(size: tuple[int, int], tile: tuple[int, int], low: int, high: int) -> tuple[int, int]:
    """The (columns, rows) of `low` to `high` tiles whose shape is nearest to a (height, width).

    Of equally near ones the largest wins that still holds less than twice the picture's area.
    """
    shape, area = size[1] / size[0], size[0] * size[1]
    grids = [
        (columns, rows)
        for columns in range(1, high + 1)
        for rows in range(1, high + 1)
        if low <= columns * rows <= high
    ]
    best, gap = (1, 1), math.inf
    for columns, rows in sorted(grids, key=math.prod):
        here = abs(shape - columns / rows)
        roomy = area > 0.5 * tile[0] * tile[1] * columns * rows
        if here < gap or (here == gap and roomy):
            best, gap = (columns, rows), here
    return best
