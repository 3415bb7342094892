"""Films through torchcodec, for those where it gives the very frames that PyAV gives.

Measured with torchcodec 0.13 on the clips of `benchmarks/decode.py` and its own test clips: equal
in every bit for 8-bit films of even size in MP4, MOV and MKV. It differs elsewhere: other chroma
interpolation for 10 bits and odd sizes, and wrong frames after a seek in MPG, in AVI with
reordered frames, and where an edit list drops the first key frame. Those go to PyAV, and so does
every request that PyAV answers as soon.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from av.video.frame import VideoFrame
from torch import Tensor

from sparsight.core.clip import Audio
from sparsight.core.errors import UserError
from sparsight.media.decoding import threads_for
from sparsight.media.film import Film
from sparsight.media.index import plan

_CONTAINERS = frozenset({"mov", "matroska"})


def pays(wanted: int, passed: int, pixels: int) -> bool:
    """Whether torchcodec decodes `wanted` of the frames `passed`, each of so many pixels, sooner.

    It opens and reads through the file once more and decodes also what PyAV leaves out, frames
    that no other refers to, but copies no frame. Measured in CPU time: with all frames wanted it
    takes 0.95 to 1 of PyAV's time from 576x1024 on, 1.04 at 640x360, 1.2 at 320x240 and for a film
    of 30 frames; with every other frame wanted 1.2 to 1.5.
    """
    return wanted >= 64 and wanted >= 0.9 * passed and pixels >= 500_000


@cache
def decoders() -> Any | None:
    """The module `torchcodec.decoders`, or None where it or the FFmpeg it needs is missing."""
    try:
        return importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError):  # the last two: a shared library is missing
        return None


def same_frames(film: Film, first: VideoFrame) -> bool:
    """Whether torchcodec decodes this film to the same bits as PyAV; `first` is a frame of it."""
    index = film.index
    return (
        film.file.demuxer in _CONTAINERS
        and not index.counted
        and len(index.place) == len(index.packet_pts)
        and first.width % 2 == 0
        and first.height % 2 == 0
        and all(part.bits == 8 and not part.is_alpha for part in first.format.components)
    )


@dataclass(frozen=True, eq=False)
class TorchcodecFilm:
    """A film that torchcodec decodes: `always`, or where that pays."""

    film: Film
    always: bool

    def decode(self, indices: Sequence[int]) -> Tensor:
        """Frames by index, uint8 (n, H, W, 3). Raises `UserError` if one cannot be decoded."""
        self.film.check(len(indices))
        runs = plan(self.film.index, indices)
        passed = sum(run.stop - run.start + 1 for run in runs)
        height, width = self.film.size
        if not self.always and not pays(len(set(indices)), passed, height * width):
            return self.film.decode(indices)
        frames = self._decode(indices)
        if frames is not None:
            self.film.close()
            return frames
        if self.always:
            raise UserError(
                f"{self.film.file.origin}: torchcodec cannot decode these frames; "
                "use the backend pyav"
            )
        return self.film.decode(indices)

    def audio(self) -> Audio | None:
        """The best sound track, mono 16 kHz."""
        return self.film.audio()

    def digest(self) -> str:
        """The same as with PyAV: so are the frames."""
        return self.film.digest()

    def _decode(self, indices: Sequence[int]) -> Tensor | None:
        """None where torchcodec fails or does not see the film that PyAV sees."""
        module = decoders()
        assert module is not None
        source = self.film.file.source
        try:
            decoder = module.VideoDecoder(
                source if isinstance(source, bytes) else str(source),
                stream_index=self.film.stream,
                dimension_order="NHWC",
                num_ffmpeg_threads=threads_for(*self.film.size, os.cpu_count() or 1),
            )
            if len(decoder) != len(self.film.index.pts):
                return None
            batch = decoder.get_frames_at(list(indices))
        except (RuntimeError, ValueError, IndexError):
            return None
        seconds = torch.from_numpy(self.film.index.seconds)[list(indices)]
        same = batch.data.shape[1:3] == self.film.size and bool(
            torch.isclose(batch.pts_seconds, seconds, rtol=0, atol=1e-6).all()
        )
        return batch.data if same else None
