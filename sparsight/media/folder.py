"""A folder of frames as a film: the pictures in it, in natural order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparsight.core.clip import Audio, Clip
from sparsight.core.errors import UserError
from sparsight.media.access import Access, check_path
from sparsight.media.limits import Limits
from sparsight.media.picture import load_picture

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))


def load_folder(folder: Path, origin: str, limits: Limits, policy: Access, fps: float) -> Clip:
    """The pictures in `folder` (not below) as a film of `fps` frames a second.

    Natural order: frame2 comes before frame10. All must have the first one's size. Raises
    `UserError` for a folder without pictures, for a link that leads out of bounds, and above
    the limits.
    """
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file()]
    except OSError:
        raise UserError(f"{origin}: the folder cannot be read; check its permissions") from None
    if not files:
        raise UserError(f"{origin}: the folder holds no pictures; give one with JPEG, PNG, ...")
    limits.check("frames", len(files), origin, f"a film of {len(files):,} frames")
    for path in files:
        check_path(path, policy)  # a link among them may lead out of the permitted folders
    files.sort(key=lambda path: _natural(path.name))
    source = FolderFrames(tuple(files), origin, limits)
    height, width = source.picture(0).shape[:2]
    times = torch.arange(len(files), dtype=torch.float64) / fps
    keys = tuple(range(len(files)))
    return Clip("film", origin, (height, width), times, len(files) / fps, keys, source)


@dataclass(frozen=True, eq=False)
class FolderFrames:
    """Pictures on disk, one a frame."""

    files: tuple[Path, ...]
    origin: str
    limits: Limits

    def picture(self, i: int) -> Tensor:
        """Frame `i` as uint8 (H, W, 3)."""
        return load_picture(self._read(i), self._name(i), self.limits).frames([0])[0]

    def decode(self, indices: Sequence[int]) -> Tensor:
        first = self.picture(0) if 0 not in indices else None
        pictures = {i: self.picture(i) for i in dict.fromkeys(indices)}
        shape = (pictures[0] if first is None else first).shape
        size = len(indices) * shape.numel()
        self.limits.check("decoded_bytes", size, self.origin, f"{len(indices)} frames")
        for i, picture in pictures.items():
            if picture.shape != shape:
                raise UserError(
                    f"{self._name(i)}: {picture.shape[1]}x{picture.shape[0]} does not fit the "
                    f"first frame's {shape[1]}x{shape[0]}; all frames must have one size"
                )
        return torch.stack([pictures[i] for i in indices])

    def audio(self) -> Audio | None:
        return None

    def digest(self) -> str:
        digest = hashlib.sha256(b"folder")
        for i in range(len(self.files)):
            digest.update(hashlib.sha256(self._read(i)).digest())
        return digest.hexdigest()

    def _name(self, i: int) -> str:
        return f"{self.origin}/{self.files[i].name}"

    def _read(self, i: int) -> bytes:
        try:
            size = self.files[i].stat().st_size
            self.limits.check("bytes", size, self._name(i), f"a size of {size:,} bytes")
            return self.files[i].read_bytes()
        except OSError:
            raise UserError(f"{self._name(i)}: the file cannot be read") from None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
