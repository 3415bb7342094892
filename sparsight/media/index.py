"""Where every frame of a film lies, learned from the packets alone, and what to decode for some.

Words: a packet has a *place*, its number in the file (decoding order); a frame has an *index*,
its number as shown (presentation order). A *run* is a stretch of places decoded in one go, from
a key packet on. N packets, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from zlib import crc32

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from sparsight.core.errors import UserError
from sparsight.media.h264 import OrderReader, Shown
from sparsight.media.limits import Limits

# Going on to the next key packet costs the decoding of what lies between; jumping there costs a
# seek and a drained, then refilled pipeline. Measured by benchmarks/seek.py: up to 4 or 8 frames
# are best (4 % over each clip's own best on average); always seeking is 10 % over, up to 64 17 %.
JUMP = 4
_HEAD = 32  # packets kept to find the first frame in
_NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, eq=False)
class Index:
    """Where every frame of a video stream lies.

    packet_pts (N,): presentation time of each packet, in ticks, by place. marks (N,): what
    `marker` says of each. keys: places of key packets. key_dts: their decoding times, to seek by.
    place (T,), pts (T,): of each frame.
    seconds (T,) float64. duration: from the first frame's appearance to the last one's end.
    counted: the packets' times cannot be trusted; frames are told by counting from the start.
    given: where the file has no presentation times, but the stream tells its order: the time each
    packet is given here, its frame's index, by its decoding time.
    """

    packet_pts: np.ndarray
    marks: np.ndarray
    keys: np.ndarray
    key_dts: np.ndarray
    place: np.ndarray
    pts: np.ndarray
    seconds: np.ndarray
    duration: float
    counted: bool
    given: Mapping[int, int] | None = None

    def by_counting(self) -> Index:
        """The same film, its frames told by counting."""
        return replace(self, counted=True, given=None)


@dataclass(frozen=True)
class Run:
    """Decode the packets at places start to stop, both included."""

    start: int
    stop: int


def read_index(
    container: InputContainer, video: VideoStream, limits: Limits, origin: str
) -> tuple[Index, list[av.Packet]]:
    """Read all packets of `video` without decoding: the index, and the first few packets.

    Raises `UserError` if there are none, and as soon as they pass the limit on frames. A film
    that is cut off ends where its last whole packet ends.
    """
    head: list[av.Packet] = []
    rows: list[tuple[int, int, int, int, bool, bool]] = []
    most = float("inf") if limits.frames is None else limits.frames
    # AVI keeps no presentation times: where frames are reordered, those made up from it are wrong.
    context = video.codec_context
    reordered = "avi" in container.format.name and context.has_b_frames > 0
    is_h264 = context.codec.canonical_name == "h264"
    mark = marker(container)
    order = OrderReader(context.extradata or b"") if reordered and is_h264 else None
    try:
        for packet in container.demux(video):
            if packet.size == 0 or packet.is_corrupt:
                continue
            if len(head) < _HEAD:
                head.append(packet)
            pts, dts = packet.pts, packet.dts
            rows.append(
                (
                    _NO_TIME if pts is None else pts,
                    _NO_TIME if dts is None else dts,
                    packet.duration or 0,
                    mark(packet),
                    packet.is_keyframe,
                    packet.is_discard,
                )
            )
            if order is not None:
                order.add(bytes(packet))
            if len(rows) > most:
                limits.check("frames", len(rows), origin, f"a film of {len(rows):,} frames or more")
    except av.FFmpegError:
        pass  # cut off: what lies before is the film
    if not any(not discarded for *_, discarded in rows):
        raise UserError(f"{origin}: the film has no frames; get it again or convert it")
    index = _index(np.array(rows, dtype=np.int64), video, reordered)
    shown = None if order is None else order.order()
    return (index if shown is None else _by_order(index, rows, shown)), head


def marker(container: InputContainer) -> Callable[[av.Packet], int]:
    """What tells a packet from others when it is met again: its size.

    Of a key packet in MPEG-PS the checksum, because there packets are dated wrongly after a seek.
    """
    if container.format.name == "mpeg":
        return lambda packet: crc32(packet) if packet.is_keyframe else packet.size
    return attrgetter("size")


def _by_order(index: Index, rows: Sequence[tuple[int, ...]], shown: Shown) -> Index:
    """The `index` of a film without presentation times, whose packets are `shown` in an order."""
    dts = np.array([row[1] for row in rows])
    first = shown.starts[0] and len(index.place) == len(rows)  # nothing before it, nothing left out
    if not first or dts.min() == _NO_TIME or len(np.unique(dts)) < len(dts):
        return index
    keys = np.flatnonzero(shown.starts)
    return replace(
        index,
        packet_pts=shown.rank,
        keys=keys,
        key_dts=dts[keys],
        place=np.argsort(shown.rank),
        pts=np.arange(len(dts)),
        counted=False,
        given=dict(zip(dts.tolist(), shown.rank.tolist(), strict=True)),
    )


def _index(packets: np.ndarray, video: VideoStream, reordered: bool) -> Index:
    pts, dts, lasts, marks, is_key, discarded = packets.T
    dts = np.where(dts == _NO_TIME, pts, dts)
    keys = np.flatnonzero(is_key)
    shown = np.flatnonzero(discarded == 0)
    step = 1 / float(video.average_rate or video.guessed_rate or 25)
    if reordered or (pts == _NO_TIME).any() or len(np.unique(pts)) < len(pts):
        seconds = np.arange(len(shown)) * step
        total = len(shown) * step
        return Index(pts, marks, keys, dts[keys], shown, pts[shown], seconds, total, counted=True)
    place = shown[np.argsort(pts[shown], kind="stable")]
    assert video.time_base is not None
    ticks, per_second = video.time_base.as_integer_ratio()
    seconds = pts[place] * ticks / per_second
    last = lasts[place[-1]] * ticks / per_second or step
    total = float(seconds[-1] - seconds[0] + last)
    key_dts = np.minimum(dts, pts)[keys]
    return Index(pts, marks, keys, key_dts, place, pts[place], seconds, total, counted=False)


def plan(index: Index, wanted: Sequence[int]) -> list[Run]:
    """The cheapest runs that decode the frames `wanted`.

    Each frame is entered from the last key packet that comes before it both in the file and on
    screen; where the way there from the run before is short, that run goes on instead.
    """
    if index.counted:
        return [Run(0, max(wanted))]
    runs: list[Run] = []
    for place in sorted(int(index.place[i]) for i in wanted):
        before = index.keys[: np.searchsorted(index.keys, place, "right")]
        shown = before[index.packet_pts[before] <= index.packet_pts[place]]
        key = int(shown[-1]) if len(shown) else 0
        if runs and key <= runs[-1].stop + JUMP:
            runs[-1] = Run(runs[-1].start, place)
        else:
            runs.append(Run(key, place))
    return runs
