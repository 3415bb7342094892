"""`load`: one door for every kind of medium. The content decides what it is, not the name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import Image
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.media.access import Access, check_path
from sparsight.media.arrays import load_array, load_image, load_images, load_tensor
from sparsight.media.backends import Backend, check_backend, decoded_by
from sparsight.media.container import MediaFile, demuxer_of
from sparsight.media.film import load_film
from sparsight.media.folder import load_folder
from sparsight.media.limits import Limits
from sparsight.media.picture import is_animated, load_picture

Source = str | Path | bytes | bytearray | np.ndarray | Tensor | Image.Image | Clip | Sequence[Any]

FPS = 24.0  # of frames that carry no times; what transformers assumes of them, too
_HEAD = 400  # bytes that tell what a file is
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")
_AVIF = (b"avif", b"avis", b"mif1", b"miaf")


_LIMITS, _ACCESS = Limits(), Access()


@dataclass(frozen=True)
class _Options:
    """The options of `load`, to be handed on together."""

    limits: Limits
    policy: Access
    backend: Backend
    stream: int | None
    fps: float


def load(
    source: Source,
    *,
    limits: Limits = _LIMITS,
    policy: Access = _ACCESS,
    backend: Backend = "auto",
    stream: int | None = None,
    fps: float = FPS,
) -> Clip:
    """A picture or a film from whatever holds it; frames of films are decoded when asked for.

    `source`: a path; an http(s) or data URL; the file's bytes; a folder of pictures (natural
    order); a numpy array (H, W), (H, W, 3) or (T, H, W, 3) or a torch tensor, also channels
    first, of uint8 or of floating point in 0..1; a Pillow image, or a list of them as the frames
    of a film; a Clip, which is returned as it is.

    `limits` and `policy` say how much and from where. `backend` decodes films: "pyav",
    "torchcodec", or "auto", which takes torchcodec where it imports, gives the same frames and
    gives them as soon. `stream` chooses a video stream by its number in the file. `fps` is the
    frame rate of frames that carry no times: folders, arrays, tensors and lists.

    Raises `UserError`, one line, for whatever cannot or may not be loaded.
    """
    if not 0 < fps < float("inf"):
        raise UserError(f"fps must be above 0, not {fps}")
    check_backend(backend)
    options = _Options(limits, policy, backend, stream, fps)
    match source:
        case Clip():
            return source
        case bytes() | bytearray():
            return _from_bytes(bytes(source), "the given bytes", options)
        case np.ndarray():
            return load_array(source, "the given array", limits, fps)
        case Tensor():
            return load_tensor(source, "the given tensor", limits, fps)
        case Image.Image():
            return load_image(source, "the given picture", limits)
        case [*images] if all(isinstance(image, Image.Image) for image in images):
            return load_images(images, "the given pictures", limits, fps)
        case Path():
            return _from_path(source, options)
        case str():
            return _from_text(source, options)
    raise UserError(
        f"a {type(source).__name__} cannot be loaded; give a path, URL, bytes, array, tensor "
        "or Pillow image (several media: one load each)"
    )


def _from_text(text: str, options: _Options) -> Clip:
    scheme = text.partition(":")[0].lower()
    if scheme == "data":
        return _from_bytes(_data_url(text, options.limits), "the data URL", options)
    if "://" in text or scheme in ("http", "https", "file"):
        from sparsight.media.remote import fetch  # httpx takes a while to import

        name = text.partition("?")[0].rstrip("/").rpartition("/")[2] or "the URL"
        return _from_bytes(fetch(text, options.limits, options.policy), name, options)
    if not text.strip():
        raise UserError("the name of the medium is empty; give a path or URL")
    return _from_path(Path(text), options)


def _from_path(path: Path, options: _Options) -> Clip:
    limits = options.limits
    origin = path.name or str(path)
    real = check_path(path, options.policy)
    try:
        if real.is_dir():
            return load_folder(real, origin, limits, options.policy, options.fps)
        if not real.exists():
            raise UserError(f"{path}: there is no such file; check the path")
        if not real.is_file():
            raise UserError(f"{origin}: this is neither a file nor a folder")
        size = real.stat().st_size
        limits.check("bytes", size, origin, f"a size of {size:,} bytes")
        with real.open("rb") as file:
            head = file.read(_HEAD)
            demuxer = _demuxer(head, origin)
            data = head + file.read() if demuxer in (None, "gif") else None
    except OSError:
        raise UserError(f"{origin}: the file cannot be read; check its permissions") from None
    if data is not None:
        return _from_bytes(data, origin, options)
    assert demuxer is not None
    return _film(real, demuxer, origin, options)


def _from_bytes(data: bytes, origin: str, options: _Options) -> Clip:
    limits = options.limits
    limits.check("bytes", len(data), origin, f"a size of {len(data):,} bytes")
    demuxer = _demuxer(data[:_HEAD], origin)
    if demuxer is None or (demuxer == "gif" and not is_animated(data, origin, limits)):
        return load_picture(data, origin, limits)
    return _film(data, demuxer, origin, options)


def _film(source: Path | bytes, demuxer: str, origin: str, options: _Options) -> Clip:
    file = MediaFile(source, demuxer, origin)
    decoder = partial(decoded_by, options.backend)
    return load_film(file, options.limits, options.stream, decoder)


def _demuxer(head: bytes, origin: str) -> str | None:
    """FFmpeg's name of a film's or sound's container, None for a picture."""
    if not head:
        raise UserError(f"{origin}: the file is empty; get it again")
    if head.startswith(_PICTURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return None
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF:
        return None
    demuxer = demuxer_of(head)
    if demuxer is None:
        raise UserError(
            f"{origin}: this is neither a picture nor a film of a known kind; give JPEG, PNG, "
            "WebP, GIF, BMP, TIFF, AVIF, MP4, MOV, MKV, WebM, AVI, TS or MPG"
        )
    return demuxer


def _data_url(text: str, limits: Limits) -> bytes:
    """The bytes of a data URL, RFC 2397: base64 in any case, parameters ignored."""
    header, comma, body = text.partition(",")
    if not comma:
        raise UserError("the data URL has no comma; give data:<type>;base64,<data>")
    limits.check("bytes", len(body) * 3 // 4, "the data URL", "its size")
    if not header.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UserError("the data URL is not valid base64; encode it again") from None
