"""Decoding runs of a film's packets through PyAV.

The words place, index and run are explained in `index`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sparsight.core.errors import UserError
from sparsight.media.index import Index, Run, marker

# Where a frame that no other refers to can be left out while all others stay exact. Not in HEVC,
# where such a frame may still be referred to from higher temporal layers.
_SKIPPABLE = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
# Containers that find their first packet again after being read to the end: by its time, or by
# the first byte of the file.
_BY_TIME = frozenset({"mov", "matroska", "avi"})
_BY_BYTE = frozenset({"mpeg", "mpegts", "flv"})


@dataclass(frozen=True, eq=False)
class Opened:
    """A film opened for one request: its container stands before the first packet.

    The decoder was given the first `fed` packets already, and `frames` came out of them.
    """

    container: InputContainer
    fed: int = 0
    frames: Sequence[VideoFrame] = ()


class OutOfOrderError(Exception):
    """The decoder shows frames in another order than the index says."""


# Frames of as many pixels are small.
_SMALL = 352 * 288
_SMALL_IN = {"av1": 640 * 360}


def threads_for(width: int, height: int, cores: int, codec: str = "") -> int:
    """Threads that decode frames of this size on a machine of so many cores.

    Small frames decode in less time than threads need to hand them over (320x240 MPEG-4: 10 ms
    with one thread, 13 with two; 640x360 AV1: 22 and 26); more than eight threads only hold more
    frames.
    """
    return 1 if width * height <= _SMALL_IN.get(codec, _SMALL) else min(8, cores)


def rewind(container: InputContainer, video: VideoStream, index: Index) -> bool:
    """Go back to the first packet, where the container is one that finds it."""
    kind = container.format.name.partition(",")[0]
    by_time = kind in _BY_TIME and len(index.keys) > 0
    if not by_time and (kind not in _BY_BYTE or index.counted):
        return False
    try:
        _go_to(container, video, index, 0)
    except av.FFmpegError:
        return False
    return True


def begin(
    container: InputContainer,
    video: VideoStream,
    index: Index,
    head: Sequence[av.Packet],
    origin: str,
    rewound: bool,
) -> tuple[Opened, VideoFrame]:
    """The first frame that comes out of the first packets, `head`, and what decodes on from there.

    Raises `UserError` if there is none.
    """
    context = _decoder(video)
    if rewound and (index.counted or context.codec.canonical_name not in _SKIPPABLE):
        # All these packets will be decoded, whatever is asked for.
        for fed, packet in enumerate(head, 1):
            frames = _decoded(context, packet)
            if frames:
                return Opened(container, fed, frames), frames[0]
        context.flush_buffers()
    # The first packet alone is nearly always enough; where an edit list drops it, go on.
    for attempt in (head[:1], head):
        for part in (*attempt, None):
            for frame in _decoded(context, part):
                context.flush_buffers()
                return Opened(container), frame
        context.flush_buffers()
    raise UserError(f"{origin}: the film has no frame that can be decoded; get it again")


def decode(
    opened: Opened, stream: int, index: Index, runs: Sequence[Run], wanted: frozenset[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames `wanted` as the decoder gives them in `runs`, each with its index.

    Raises `OutOfOrderError` where the order of the frames was read from the stream and is wrong.
    """
    container = opened.container
    video = container.streams[stream]
    assert isinstance(video, VideoStream)
    context = _decoder(video)
    if index.counted:
        frames = chain(opened.frames, _all(container, video, opened.fed))
        yield from zip(range(max(wanted) + 1), frames, strict=False)
        return
    names = {int(index.pts[i]): i for i in wanted}
    skippable = context.codec.canonical_name in _SKIPPABLE
    exact = True
    for run in runs:
        fed, ready = opened.fed, opened.frames
        if run.start:
            _go_to(container, video, index, run.start)
            fed, ready = 0, ()
        last = -1
        for packet in chain(islice(_packets(container, video, index, run), fed, None), (None,)):
            # What nobody asked for and nobody refers to is left out.
            if skippable and packet is not None and (packet.pts in names) != exact:
                exact = not exact
                context.skip_frame = "DEFAULT" if exact else "NONREF"
            for frame in chain(ready, _decoded(context, packet)):
                if index.given is not None:
                    if frame.pts is None or frame.pts <= last:
                        raise OutOfOrderError
                    last = frame.pts
                if frame.pts in names:
                    yield names[frame.pts], frame
            ready = ()
        context.flush_buffers()


def _decoder(video: VideoStream) -> av.VideoCodecContext:
    context = video.codec_context
    if not context.is_open:
        context.thread_type = "AUTO"
        context.thread_count = threads_for(
            context.width, context.height, os.cpu_count() or 1, context.codec.canonical_name
        )
    return context


def _go_to(container: InputContainer, video: VideoStream, index: Index, place: int) -> None:
    """Go to the packet at `place`, a key packet or the first one, or somewhat before it."""
    key = int(np.searchsorted(index.keys, place))
    kind = container.format.name
    if kind == "mpeg":
        key = max(key - 1, 0)  # where it is entered, packets are often cut or dated wrongly
    if kind in _BY_BYTE and (place == 0 or key == 0):
        container.seek(0, unsupported_byte_offset=True)
    else:
        container.seek(int(index.key_dts[key]), stream=video)


def _all(container: InputContainer, video: VideoStream, fed: int) -> Iterator[VideoFrame]:
    """Every frame but of the first `fed` packets, in the order the decoder gives them."""
    context = _decoder(video)
    packets = (packet for packet in container.demux(video) if not packet.is_corrupt)
    for packet in islice(packets, fed, None):
        yield from _decoded(context, packet if packet.size else None)


def _packets(
    container: InputContainer, video: VideoStream, index: Index, run: Run
) -> Iterator[av.Packet]:
    """The packets of `run`, as long as they are those of the index.

    None if the container stands behind its start. After a seek some containers, above all MPEG-PS,
    date packets otherwise than when read from the beginning, or give half a one; from there on
    nothing is given out, since frames would be wrong.
    """
    part = slice(run.start, run.stop + 1)
    expected = list(zip(index.packet_pts[part].tolist(), index.marks[part].tolist(), strict=True))
    mark = marker(container)
    place = 0
    for packet in container.demux(video):
        if packet.size == 0 or packet.is_corrupt:
            continue
        if index.given is not None and packet.dts is not None:
            packet.pts = index.given.get(packet.dts)
        if (packet.pts, mark(packet)) == expected[place]:
            yield packet
            place += 1
        elif place:
            return
        if place == len(expected):
            return


def _decoded(context: av.VideoCodecContext, packet: av.Packet | None) -> list[VideoFrame]:
    try:
        return context.decode(packet)
    except av.FFmpegError:
        return []  # a damaged packet costs its own frame; whoever wants that one is told
