"""What the media tests share: where the real clips lie, and small films made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures and clips; its MANIFEST.md says what they are."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real clips (../shared/data) are not on this machine")
    return SHARED_DATA


def frame_of(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that says its number: grey level by number, a white mark in the top left."""
    frame = np.full((height, width, 3), 40 + (number * 17) % 160, dtype=np.uint8)
    frame[: height // 4, : width // 2] = (250, 20, 20)
    return frame


def write_film(
    path: Path,
    *,
    frames: int = 20,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    rate: int = 10,
    size: tuple[int, int] = (48, 64),
    options: dict[str, str] | None = None,
    turn: int | None = None,
    tone: float | None = None,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Encode `frames` pictures of `frame_of`; `times` in hundredths of a second, `tone` in Hz."""
    height, width = size
    with av.open(path, "w") as container:
        chosen = {"g": "8", "bf": "2"} if options is None else dict(options)
        if codec.startswith("libvpx"):
            chosen |= {"deadline": "realtime", "cpu-used": "8"}  # minutes otherwise
        video = container.add_stream(codec, rate=rate, options=chosen)
        if times:
            video.codec_context.time_base = Fraction(1, 100)
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        if turn is not None:
            video.set_display_rotation(turn)
        sound = container.add_stream("aac", rate=44100, layout="stereo") if tone else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(frame_of(i, height, width), format="rgb24")
            frame.pts = times[i] if times else round(i * 100 / rate)
            frame.time_base = Fraction(1, 100)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            seconds = np.arange(int(44100 * frames / rate)) / 44100
            wave = (0.5 * np.sin(2 * np.pi * tone * seconds)).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
            samples.rate = 44100
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return path


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Writes a film into the test's folder: `film("a.mp4", frames=20, ...)` gives its path."""
    return lambda name, **options: write_film(tmp_path / name, **options)
