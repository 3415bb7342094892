"""`Clip`: one picture or film whose frames are decoded only when asked for.

Shapes: T frames of the clip, n frames asked for, H height, W width, S sound samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from sparsight.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Audio:
    """Mono sound: `samples` (S,) float32 in -1..1, `rate` samples a second."""

    samples: Tensor
    rate: int = 16000

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


class FrameSource(Protocol):
    """Where a clip's frames come from. All methods may be called from several threads."""

    def decode(self, indices: Sequence[int]) -> Tensor:
        """The frames at `indices` in the order asked, duplicates allowed: uint8 (n, H, W, 3)."""
        ...

    def audio(self) -> Audio | None:
        """The sound track as mono 16 kHz, or None where there is none."""
        ...

    def digest(self) -> str:
        """A hash of the content and of everything that changes how it is read."""
        ...


@dataclass(frozen=True, eq=False)
class Clip:
    """One picture or film; frames are decoded only when asked for.

    `origin` is the name to show (a file name); `size` is (height, width) as shown, after rotation.
    `timestamps` is a float64 tensor (T,): the second at which each frame appears, rising, counted
    from the stream's own zero (a film may start later than 0). A picture has `[0.0]`.
    `duration` is in seconds from the first frame's appearance to the last one's end, 0 for a
    picture. `key_frames` are the indices of the frames that decode on their own.
    """

    kind: Literal["picture", "film"]
    origin: str
    size: tuple[int, int]
    timestamps: Tensor
    duration: float
    key_frames: tuple[int, ...]
    source: FrameSource

    def __len__(self) -> int:
        return len(self.timestamps)

    def frames(self, indices: Sequence[int] | None = None) -> Tensor:
        """Decode: uint8 (n, H, W, 3) RGB, in the order asked, duplicates allowed.

        Negative indices count from the end; None means every frame. Raises `UserError` for an
        index the clip does not have, for broken media, and above the limits it was loaded with.
        """
        total = len(self)
        wanted = range(total) if indices is None else [int(i) for i in indices]
        for i in wanted:
            if not -total <= i < total:
                raise UserError(
                    f"{self.origin}: there is no frame {i}; it has {total} "
                    f"(0 to {total - 1}, or negative from the end)"
                )
        if not wanted:
            return torch.empty((0, *self.size, 3), dtype=torch.uint8)
        return self.source.decode([i % total for i in wanted])

    def audio(self) -> Audio | None:
        """The sound track, mono 16 kHz float, decoded now; None where there is none."""
        return self.source.audio()

    def digest(self) -> str:
        """A hash of content, shape and reading options; equal digests mean equal frames."""
        return self.source.digest()

    @classmethod
    def from_frames(
        cls,
        frames: Tensor,
        *,
        fps: float | None = None,
        timestamps: Sequence[float] | Tensor | None = None,
        origin: str = "frames",
    ) -> Clip:
        """A film of frames in memory: uint8 (T, H, W, 3) with either `fps` or `timestamps` (T,).

        Raises `UserError` on another shape or type, no frames, both or neither of the two times,
        a rate that is not above zero, or timestamps that do not rise.
        """
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise UserError(
                f"{origin}: frames must be uint8 of shape (T, H, W, 3), "
                f"not {_name(frames.dtype)} {tuple(frames.shape)}"
            )
        if frames.numel() == 0:
            raise UserError(f"{origin}: there are no frames in shape {tuple(frames.shape)}")
        total = len(frames)
        times = _times(total, fps, timestamps, origin)
        # The last frame is shown as long as the one before it; a lone one as long as fps says.
        last = 1 / fps if fps else float(times[-1] - times[-2]) if total > 1 else 0.0
        return cls(
            kind="film",
            origin=origin,
            size=(frames.shape[1], frames.shape[2]),
            timestamps=times,
            duration=float(times[-1] - times[0]) + last,
            key_frames=tuple(range(total)),
            source=MemoryFrames(frames, tuple(times.tolist())),
        )

    @classmethod
    def from_picture(cls, pixels: Tensor, *, origin: str = "picture") -> Clip:
        """A picture in memory: uint8 (H, W, 3). Raises `UserError` on another shape or type."""
        film = cls.from_frames(pixels[None], fps=1.0, origin=origin)
        source = MemoryFrames(pixels[None], ())
        return cls("picture", origin, film.size, film.timestamps, 0.0, (0,), source)


@dataclass(frozen=True, eq=False)
class MemoryFrames:
    """Frames that are already decoded, (T, H, W, 3) uint8, and their times in seconds."""

    pixels: Tensor
    times: tuple[float, ...]

    def decode(self, indices: Sequence[int]) -> Tensor:
        return self.pixels[list(indices)]

    def audio(self) -> Audio | None:
        return None

    def digest(self) -> str:
        header = f"frames {tuple(self.pixels.shape)} {self.times} "
        digest = hashlib.sha256(header.encode())
        digest.update(self.pixels.contiguous().cpu().numpy().data)
        return digest.hexdigest()


def _times(
    total: int, fps: float | None, timestamps: Sequence[float] | Tensor | None, origin: str
) -> Tensor:
    if (fps is None) == (timestamps is None):
        raise UserError(f"{origin}: give either fps or timestamps")
    if fps is not None:
        if not 0 < fps < float("inf"):
            raise UserError(f"{origin}: fps must be above 0, not {fps}")
        return torch.arange(total, dtype=torch.float64) / fps
    times = torch.as_tensor(timestamps, dtype=torch.float64)
    if times.shape != (total,):
        raise UserError(f"{origin}: {total} frames need {total} timestamps, not {times.numel()}")
    if not torch.isfinite(times).all() or (times.diff() <= 0).any():
        raise UserError(f"{origin}: timestamps must be finite and rise from frame to frame")
    return times


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
