"""Films through torchcodec, for those where it gives the very frames that PyAV gives.

Measured with torchcodec 0.13 on the clips of `benchmarks/decode.py` and its own test clips: equal
in every bit for 8-bit films of even size in MP4, MOV and MKV. It differs elsewhere: other chroma
interpolation for 10 bits and odd sizes, and wrong frames after a seek in MPG, in AVI with
reordered frames, and where an edit list drops the first key frame. Those go to PyAV.
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
from sparsight.media.film import Film
from sparsight.media.index import plan

# Where fewer than this share of the frames passed are wanted, PyAV takes less CPU time: it leaves
# out the frames that no other refers to. From there on the two are about level.
_DENSE = 0.5
_CONTAINERS = frozenset({"mov", "matroska"})


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
    """A film that torchcodec decodes: `always`, or where most frames are wanted."""

    film: Film
    always: bool

    def decode(self, indices: Sequence[int]) -> Tensor:
        """Frames by index, uint8 (n, H, W, 3). Raises `UserError` if one cannot be decoded."""
        self.film.check(len(indices))
        runs = plan(self.film.index, indices)
        passed = sum(run.stop - run.start + 1 for run in runs)
        if not self.always and len(set(indices)) < _DENSE * passed:
            return self.film.decode(indices)
        frames = self._decode(indices)
        if frames is not None:
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
                num_ffmpeg_threads=min(8, os.cpu_count() or 1),
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
