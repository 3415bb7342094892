"""Pictures through Pillow: any permitted format and mode to 8-bit RGB, upright, on white."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.media.limits import Limits

# Nothing that runs a program (EPS) or that few have ever fuzzed.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# Of these, several images in one file are a film; in TIFF and MPO they are pages and views.
_ANIMATED = ("PNG", "WEBP", "AVIF", "GIF")
_NO_DELAY = 0.1  # what browsers show a frame for that asks for no time at all


def load_picture(data: bytes, origin: str, limits: Limits) -> Clip:
    """A picture, or a film if the file is an animated PNG, WebP, AVIF or GIF.

    EXIF orientation is applied, transparency composited on white, CMYK and palettes turned to
    RGB, 16 bits reduced to their upper 8. Of a TIFF with several pages the first counts. Raises
    `UserError` for a broken file, another format, and above the limits, before decoding.
    """
    with _opened(data, origin, limits) as image:
        if image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1:
            return _animation(image, origin, limits)
        return Clip.from_picture(to_pixels(image, origin), origin=origin)


def is_animated(data: bytes, origin: str, limits: Limits) -> bool:
    """Whether the file shows more than one frame; reads no more than it must."""
    with _opened(data, origin, limits) as image:
        return bool(getattr(image, "is_animated", False))


def to_pixels(image: Image.Image, origin: str) -> Tensor:
    """A Pillow image of any mode as uint8 (H, W, 3): upright, on white, 8 bits."""
    if image.mode == "F":
        raise UserError(f"{origin}: floating-point pictures are not read; save it with 8 bits")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # The upper byte, as Pillow itself does for 16-bit colour, so that both agree.
        grey = np.asarray(upright).astype(np.int64).clip(0, 65535) >> 8
        return torch.from_numpy(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))
    return torch.from_numpy(np.array(on_white(upright)))


def on_white(image: Image.Image) -> Image.Image:
    """As RGB, composited on white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    above = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")


@contextmanager
def _opened(data: bytes, origin: str, limits: Limits) -> Iterator[Image.Image]:
    """The image behind `data`, its size checked; whatever Pillow raises comes out as one line."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            limits.check("pixels", width * height, origin, f"a picture of {width}x{height}")
            limits.check("decoded_bytes", width * height * 3, origin, "the decoded picture")
            yield image
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise UserError(
            f"{origin}: the picture is above the limit pixels={limits.pixels or 0:,} or Pillow's "
            f"own of {2 * (Image.MAX_IMAGE_PIXELS or 0):,}; use a smaller one"
        ) from None
    except Exception:  # Pillow's decoders raise anything from SyntaxError to struct.error
        raise UserError(
            f"{origin}: the picture is broken or of an unknown kind; "
            f"known: {', '.join(FORMATS)}; save it again in one of them"
        ) from None


def _animation(image: Image.Image, origin: str, limits: Limits) -> Clip:
    """Every frame of an open animation, in memory: these formats cannot be entered midway."""
    total = image.n_frames  # type: ignore[attr-defined]
    width, height = image.size
    limits.check("frames", total, origin, f"a film of {total:,} frames")
    size = total * width * height * 3
    limits.check("decoded_bytes", size, origin, f"an animation of {size:,} bytes")
    frames, starts, clock = [], [], 0.0
    for i in range(total):
        image.seek(i)
        frames.append(torch.from_numpy(np.array(on_white(image))))
        starts.append(clock)
        clock += image.info.get("duration", 0) / 1000 or _NO_DELAY
    limits.check("duration", clock, origin, f"a film of {clock:g} s")
    clip = Clip.from_frames(torch.stack(frames), timestamps=starts, origin=origin)
    return replace(clip, duration=clock)
