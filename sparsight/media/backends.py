"""Which library decodes a film: PyAV everywhere, torchcodec where it gives the same frames."""

from __future__ import annotations

from typing import Literal

from av.video.frame import VideoFrame

from sparsight.core.clip import FrameSource
from sparsight.core.errors import UserError, unknown
from sparsight.media.film import Film
from sparsight.media.torchcodec_film import TorchcodecFilm, decoders, same_frames

Backend = Literal["auto", "pyav", "torchcodec"]


def check_backend(backend: str) -> None:
    """Raise `UserError` for a backend that does not exist."""
    if backend not in ("auto", "pyav", "torchcodec"):
        raise unknown("backend", backend, ("auto", "pyav", "torchcodec"))


def decoded_by(backend: Backend, film: Film, first: VideoFrame) -> FrameSource:
    """What decodes a film; `first` is a frame of it.

    Raises `UserError` where "torchcodec" is demanded and is not there or not exact.
    """
    if backend == "pyav":
        return film
    if decoders() is None:
        if backend == "auto":
            return film
        raise UserError("torchcodec does not import here; install it with FFmpeg, or use pyav")
    if same_frames(film, first):
        return TorchcodecFilm(film, always=backend == "torchcodec")
    if backend == "auto":
        return film
    raise UserError(
        f"{film.file.origin}: torchcodec does not decode this kind of film exactly; "
        "use the backend pyav or auto"
    )
