"""Films, masks and sound to files: whole or not at all, at constant memory, always the same bytes.

A file that grows is a context manager that gives the function to add to it.
"""

from __future__ import annotations

import contextlib
import os
import wave
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from sparsight.world.sound import RATE

#: x264's macroblock tree reads memory that nothing has written: other bytes from run to run.
_X264 = {"crf": "23", "preset": "fast", "x264-params": "mbtree=0"}
PART = ".part"  # how the name of a file ends that is being written


class AddFrames(Protocol):
    def __call__(self, frames: np.ndarray, samples: np.ndarray | None = None) -> None:
        """Frames (T, H, W, 3) uint8 and the samples (S,) float32 that sound with them."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives another name to write to, which becomes `path` when the block ends well.

    What stood there before stays until then. Raises `OSError` that names `path` where the disk is
    full or the folder is gone.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")  # two runs may write the same file
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(part)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sweep(folder: Path, before: float) -> None:
    """Take away what a killed run left half written: parts last touched `before`, epoch seconds."""
    for part in folder.glob(f".*{PART}"):
        with contextlib.suppress(OSError):
            if part.stat().st_mtime < before:
                part.unlink()


@contextlib.contextmanager
def film(path: Path, size: tuple[int, int], fps: float, sound: bool = False) -> Iterator[AddFrames]:
    """An MP4 film of `size` (height, width), both even: H.264 and, with `sound`, AAC.

    Frame k is shown at k / fps.
    """
    assert size[0] % 2 == size[1] % 2 == 0, size
    with _container(path, "mp4") as container:
        video = _video(container, "libx264", "yuv420p", size, fps, **_X264)
        video.codec_context.color_range = ColorRange.MPEG
        video.codec_context.colorspace = Colorspace.SMPTE170M
        audio = _audio(container) if sound else None
        told = 0

        def add(frames: np.ndarray, samples: np.ndarray | None = None) -> None:
            nonlocal told
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(
                    format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG"
                )
                container.mux(video.encode(frame))
            if audio is not None and samples is not None and len(samples):
                heard = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
                heard.sample_rate, heard.time_base = RATE, Fraction(1, RATE)
                heard.pts = told
                told += len(samples)
                container.mux(audio.encode(heard))

        yield add
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))


@contextlib.contextmanager
def mask_film(
    path: Path, size: tuple[int, int], fps: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """A Matroska film of masks (T, H, W) uint8 that keeps every number: FFV1, one grey plane."""
    # bitexact: else Matroska names each file by a number drawn at random
    with _container(path, "matroska", fflags="+bitexact") as container:
        video = _video(container, "ffv1", "gray", size, fps)

        def add(masks: np.ndarray) -> None:
            for mask in masks:
                container.mux(video.encode(av.VideoFrame.from_ndarray(mask, format="gray")))

        yield add
        container.mux(video.encode(None))


@contextlib.contextmanager
def sound_file(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """A WAV file of samples (S,) in -1..1: mono, 16 bits."""
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)

        def add(samples: np.ndarray) -> None:
            file.writeframes((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())

        yield add


@contextlib.contextmanager
def _container(path: Path, kind: str, **options: str) -> Iterator[OutputContainer]:
    container = av.open(str(path), "w", format=kind, container_options=options)
    try:
        yield container
    except BaseException:
        with contextlib.suppress(OSError):
            container.close()
        raise
    container.close()


def _video(
    container: OutputContainer,
    codec: str,
    pixels: str,
    size: tuple[int, int],
    fps: float,
    **options: str,
) -> VideoStream:
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream(codec, rate=rate, options=options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = size
    stream.pix_fmt = pixels
    stream.codec_context.thread_count = 1  # with several, x264 may give other bytes each time
    return stream


def _audio(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=RATE, layout="mono")
    assert isinstance(stream, AudioStream)
    stream.bit_rate = 96_000
    return stream
