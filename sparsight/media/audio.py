"""Sound tracks through PyAV: any codec to mono 16 kHz float."""

from __future__ import annotations

import av
import numpy as np
import torch
from av.audio.resampler import AudioResampler

from sparsight.core.clip import Audio
from sparsight.core.errors import UserError
from sparsight.media.container import MediaFile
from sparsight.media.limits import Limits

RATE = 16000


def read_audio(file: MediaFile, limits: Limits) -> Audio | None:
    """The best sound track of `file`, the mean of its channels, 16,000 samples a second, or None.

    Decoding stops with `UserError` where the samples pass the limits on duration or
    decoded_bytes, and when nothing of the track can be decoded.
    """
    # FFmpeg's own mix to mono is louder than the average of the channels, and may clip.
    resampler = AudioResampler(format="fltp", rate=RATE)
    parts: list[np.ndarray] = []
    count = 0
    with file.open() as container:
        track = container.streams.best("audio")
        if track is None:
            return None
        try:
            for packet in container.demux(track):
                for frame in _decoded(packet):
                    for piece in resampler.resample(frame):
                        parts.append(piece.to_ndarray().mean(axis=0))
                        count += len(parts[-1])
                limits.check("duration", count / RATE, file.origin, "the length of its sound")
                limits.check("decoded_bytes", 4 * count, file.origin, "its sound")
        except av.FFmpegError:
            pass  # a file that is cut off still has the sound up to there
    parts += [piece.to_ndarray().mean(axis=0) for piece in resampler.resample(None) if parts]
    if not parts:
        raise UserError(f"{file.origin}: its sound track cannot be decoded; convert it")
    return Audio(torch.from_numpy(np.concatenate(parts)), RATE)


def _decoded(packet: av.Packet) -> list[av.AudioFrame]:
    try:
        return packet.decode()  # type: ignore[return-value]
    except av.error.InvalidDataError:
        return []  # one damaged packet is a gap of milliseconds
