"""Pixels already in memory: numpy arrays, torch tensors and Pillow images as clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.media.limits import Limits
from sparsight.media.picture import to_pixels


def load_array(array: np.ndarray, origin: str, limits: Limits, fps: float) -> Clip:
    """numpy: (H, W) grey, (H, W, 3) RGB, or (T, H, W, 3), a film. Always channels last."""
    if array.dtype.kind not in "uifb":
        raise UserError(f"{origin}: an array of {array.dtype} is no picture; give uint8")
    if array.ndim not in (2, 3, 4) or (array.ndim > 2 and array.shape[-1] != 3):
        raise UserError(
            f"{origin}: an array of shape {array.shape} is no picture; "
            "give (H, W), (H, W, 3) or (T, H, W, 3)"
        )
    # copied: the caller may change the array before a frame is asked for
    return _clip(torch.from_numpy(np.array(array)), origin, limits, fps)


def load_tensor(tensor: Tensor, origin: str, limits: Limits, fps: float) -> Clip:
    """torch: (H, W), or three or four dimensions with channels last or first.

    The rule: if the last dimension is 3 it is the channels; else, if the third from the end is
    3, that one is. Nothing else is guessed, so (3, 1, 1) and (1, 1, 3) are both one pixel, and
    (3, H, 3) is a picture 3 high.
    """
    shape = tuple(tensor.shape)
    if tensor.is_complex():
        raise UserError(f"{origin}: a complex tensor is no picture; give uint8")
    pixels = tensor.detach().cpu()
    if tensor.ndim in (3, 4) and shape[-1] != 3 and shape[-3] == 3:
        pixels = pixels.movedim(-3, -1)
    elif tensor.ndim != 2 and not (tensor.ndim in (3, 4) and shape[-1] == 3):
        raise UserError(
            f"{origin}: a tensor of shape {shape} is no picture; give (H, W), (H, W, 3), "
            "(3, H, W), (T, H, W, 3) or (T, 3, H, W)"
        )
    return _clip(pixels.clone(), origin, limits, fps)


def load_images(images: Sequence[Image.Image], origin: str, limits: Limits, fps: float) -> Clip:
    """Pillow images as the frames of a film; all must have one size."""
    if not images:
        raise UserError(f"{origin}: the list of pictures is empty")
    first = images[0].size
    _check(len(images), first[1], first[0], origin, limits)
    if any(image.size != first for image in images):
        raise UserError(f"{origin}: the pictures of a film must all have one size")
    return Clip.from_frames(
        torch.stack([to_pixels(image, origin) for image in images]), fps=fps, origin=origin
    )


def load_image(image: Image.Image, origin: str, limits: Limits) -> Clip:
    """A Pillow image of any mode as a picture."""
    _check(1, image.height, image.width, origin, limits)
    return Clip.from_picture(to_pixels(image, origin), origin=origin)


def _clip(pixels: Tensor, origin: str, limits: Limits, fps: float) -> Clip:
    """Pixels of any type as (H, W), (H, W, 3) or (T, H, W, 3)."""
    if pixels.numel() == 0:
        raise UserError(f"{origin}: shape {tuple(pixels.shape)} holds no pixels")
    if pixels.ndim == 2:
        pixels = pixels[..., None].expand(-1, -1, 3)
    total, height, width = (1, *pixels.shape[:2]) if pixels.ndim == 3 else pixels.shape[:3]
    _check(total, height, width, origin, limits)
    pixels = _to_bytes(pixels, origin).contiguous()
    if pixels.ndim == 3:
        return Clip.from_picture(pixels, origin=origin)
    return Clip.from_frames(pixels, fps=fps, origin=origin)


def _to_bytes(pixels: Tensor, origin: str) -> Tensor:
    """uint8 as it is, floating point from 0..1 to 0..255, rounded."""
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise UserError(f"{origin}: give pixels as uint8, or as floating point from 0 to 1")
    pixels = pixels.float()
    low, high = pixels.aminmax()
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise UserError(
            f"{origin}: floating-point pixels must lie in 0 to 1, "
            f"these reach from {low:g} to {high:g}; scale them or give uint8"
        )
    return (pixels * 255).round().to(torch.uint8)


def _check(total: int, height: int, width: int, origin: str, limits: Limits) -> None:
    limits.check("pixels", height * width, origin, f"a frame of {width}x{height}")
    limits.check("frames", total, origin, f"a film of {total:,} frames")
    size = total * height * width * 3
    limits.check("decoded_bytes", size, origin, f"a size of {size:,} bytes")
