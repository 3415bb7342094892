"""Films through PyAV: indexed when loaded, then only the frames asked for are decoded.

The words place, index and run are explained in `index`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import av
import numpy as np
import torch
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor

from sparsight.core.clip import Audio, Clip, FrameSource
from sparsight.core.errors import UserError
from sparsight.media.audio import read_audio
from sparsight.media.container import MediaFile
from sparsight.media.decoding import Opened, OutOfOrderError, begin, decode, rewind
from sparsight.media.index import Index, Run, plan, read_index
from sparsight.media.limits import Limits
from sparsight.media.picture import on_white

# Codecs in real use; FFmpeg knows hundreds more that few have ever fuzzed.
CODECS = frozenset(
    (
        *("h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3"),
        *("h263", "flv1", "mjpeg", "theora", "vc1", "wmv3", "prores", "dnxhd", "ffv1", "huffyuv"),
        *("rawvideo", "png", "qtrle", "gif"),
    )
)


def load_film(
    file: MediaFile,
    limits: Limits,
    stream: int | None,
    decoder: Callable[[Film, VideoFrame], FrameSource],
) -> Clip:
    """Index a film; decodes one frame, the first, to learn its size and rotation.

    `stream` chooses a video stream by its number in the file, None the best one; `decoder` gives
    what decodes the film, from itself and its first frame. Raises `UserError` for a broken film,
    one without video or frames, and above the limits.
    """
    container = file.open()
    try:
        video = choose_stream(container, stream, file.origin)
        _check_header(container, video, limits, file.origin)
        index, head = read_index(container, video, limits, file.origin)
        limits.check("duration", index.duration, file.origin, f"a film of {index.duration:.0f} s")
        rewound = rewind(container, video, index)
        opened, frame = begin(container, video, index, head, file.origin, rewound)
    except BaseException:
        container.close()
        raise
    turn = turn_of(frame)
    size = (frame.width, frame.height) if turn.transpose else (frame.height, frame.width)
    film = Film(file, video.index, index, size, turn, limits)
    if rewound:
        film.opened.append(opened)
    else:
        container.close()
    return Clip(
        kind="film",
        origin=file.origin,
        size=size,
        timestamps=torch.from_numpy(index.seconds),
        duration=index.duration,
        key_frames=tuple(np.flatnonzero(np.isin(index.place, index.keys)).tolist()),
        source=decoder(film, frame),
    )


@dataclass(frozen=True)
class Turn:
    """How a stored frame becomes upright: transposed first, then flipped."""

    transpose: bool = False
    flip_down: bool = False
    flip_across: bool = False

    def apply(self, frame_HWC: np.ndarray) -> np.ndarray:
        """A view of the frame, upright."""
        if self.transpose:
            frame_HWC = frame_HWC.transpose(1, 0, 2)
        if self.flip_down:
            frame_HWC = frame_HWC[::-1]
        return frame_HWC[:, ::-1] if self.flip_across else frame_HWC


@dataclass(frozen=True, eq=False)
class Film:
    """The frames of one video stream. Threads may share it: no request uses another's decoder.

    `size` is (height, width) upright. The first request finds the film still open from indexing,
    which saves probing the file twice; every container is closed after its request.
    """

    file: MediaFile
    stream: int
    index: Index
    size: tuple[int, int]
    turn: Turn
    limits: Limits
    opened: list[Opened] = field(default_factory=list)

    def decode(self, indices: Sequence[int]) -> Tensor:
        """Frames by index, uint8 (n, H, W, 3). Raises `UserError` if one cannot be decoded."""
        self.check(len(indices))
        height, width = self.size
        slots: dict[int, list[int]] = {}
        for slot, i in enumerate(indices):
            slots.setdefault(i, []).append(slot)
        out = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        index = self.index
        missing = self._fill(out, slots, index, plan(index, list(slots)))
        if missing and not index.counted:
            # A container that seeks wrongly, a key packet that is none, an order that the decoder
            # does not follow: once, read from the beginning instead.
            index = index if index.given is None else index.by_counting()
            last = int(index.place[sorted(missing)].max())
            missing = self._fill(out, {i: slots[i] for i in missing}, index, [Run(0, last)])
        if missing:
            raise UserError(
                f"{self.file.origin}: frame {min(missing)} cannot be decoded; "
                "the film is cut off or damaged there"
            )
        return torch.from_numpy(out)

    def check(self, count: int) -> None:
        """Raise `UserError` if `count` frames are more than a request may decode."""
        height, width = self.size
        what = f"{count} frames of {width}x{height}"
        self.limits.check("decoded_bytes", count * height * width * 3, self.file.origin, what)

    def close(self) -> None:
        """Close what indexing left open; the next request opens the file anew."""
        with suppress(IndexError):  # another thread may take the last one
            while True:
                self.opened.pop().container.close()

    def audio(self) -> Audio | None:
        """The best sound track, mono 16 kHz."""
        return read_audio(self.file, self.limits)

    def digest(self) -> str:
        """A hash of the file and of the stream chosen."""
        return self.file.digest("film", self.stream)

    def _fill(
        self, out: np.ndarray, slots: dict[int, list[int]], index: Index, runs: list[Run]
    ) -> set[int]:
        """Decode `runs` and write the frames wanted into `out`; the indices that did not come."""
        missing = set(slots)
        stored = self.size[::-1] if self.turn.transpose else self.size
        reformatter = VideoReformatter()
        try:
            opened = self.opened.pop()
        except IndexError:
            opened = Opened(self.file.open())
        with opened.container:
            try:
                for i, frame in decode(opened, self.stream, index, runs, frozenset(slots)):
                    if i in missing:
                        missing.remove(i)
                        first, *others = slots[i]
                        out[first] = self.turn.apply(_to_rgb(frame, stored, reformatter))
                        for slot in others:
                            out[slot] = out[first]
            except OutOfOrderError:
                return set(slots)
        return missing


def choose_stream(container: InputContainer, number: int | None, origin: str) -> VideoStream:
    """The stream called for, or the best; not a cover picture, and of a permitted codec."""
    films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not films:
        what = "sound but no film" if container.streams.audio else "no film"
        raise UserError(f"{origin}: the file holds {what}; give one with a video stream")
    best = container.streams.best("video")
    video = films[0] if best is None or best not in films else films[films.index(best)]
    if number is not None:
        found = [s for s in films if s.index == number]
        if not found:
            known = ", ".join(str(s.index) for s in films)
            raise UserError(f"{origin}: stream {number} is not a video stream; those are {known}")
        video = found[0]
    codec = video.codec_context.codec.canonical_name if video.codec_context else "unknown"
    if codec not in CODECS:
        raise UserError(f"{origin}: the video codec {codec} is not read; convert it to H.264")
    return video


def turn_of(frame: VideoFrame) -> Turn:
    """What the frame's display matrix asks for, to the nearest quarter turn, mirrored or not."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Turn()
    assert isinstance(matrix, SideData)
    a, b, _, c, d, *_ = np.frombuffer(memoryview(matrix), dtype=np.int32).tolist()
    if abs(b) > abs(a):
        return Turn(transpose=True, flip_down=b < 0, flip_across=c < 0)
    return Turn(flip_down=d < 0, flip_across=a < 0)


def _check_header(
    container: InputContainer, video: VideoStream, limits: Limits, origin: str
) -> None:
    """What the header claims is checked before any packet is read."""
    context = video.codec_context
    pixels = context.width * context.height
    limits.check("pixels", pixels, origin, f"a film of {context.width}x{context.height}")
    limits.check("frames", video.frames, origin, f"a film of {video.frames:,} frames")
    seconds = (container.duration or 0) / av.time_base
    limits.check("duration", seconds, origin, f"a film of {seconds:.0f} s")


@cache
def _has_alpha(pixel_format: str) -> bool:
    return any(part.is_alpha for part in av.VideoFormat(pixel_format).components)


def _to_rgb(frame: VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """uint8 (H, W, 3) of `size` (height, width), colour matrix and range as the frame says."""
    height, width = size
    if _has_alpha(frame.format.name):
        rgba = reformatter.reformat(frame, width, height, "rgba").to_ndarray()
        return np.asarray(on_white(Image.fromarray(rgba)))
    # One thread: the others are busy with the next frames, and small ones take longer to hand out.
    plane = reformatter.reformat(frame, width, height, "rgb24", threads=1).planes[0]
    lines = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(height, plane.line_size)
    return lines[:, : width * 3].reshape(height, width, 3)
