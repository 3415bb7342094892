"""Changes to pictures and films that leave the answers as they are: functions of pixels and a
generator of random numbers.

Nothing is mirrored unless asked for, since left and right matter. A crop moves what answers in
coordinates name, so leave it out where there are such.
Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from sparsight.core.errors import UserError


@dataclass(frozen=True)
class Augment:
    """How strongly pictures and films are changed; 0 switches a change off.

    color   brightness, contrast and saturation change by up to this share
    crop    up to this share of the height and of the width is cut away
    blur    the chance of a slight blur
    flip    the chance of a mirror image
    drop    the chance of each frame of a film to be left out
    jitter  each frame of a film moves by up to this share of the way to its neighbour
    """

    color: float = 0.1
    crop: float = 0.1
    blur: float = 0.1
    flip: float = 0.0
    drop: float = 0.1
    jitter: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < 1 and name != "flip":
                raise UserError(f"augmentation {name} is a share from 0 up to 1, not {value!r}")

    def pixels(self, frames: Tensor, random: Generator) -> Tensor:
        """Frames (T, H, W, 3) uint8 -> frames changed alike, (T, H', W', 3) uint8."""
        frames = crop(frames, self.crop, random)
        frames = color(frames, self.color, random)
        frames = blur(frames, self.blur, random)
        return flip(frames, self.flip, random)

    def frames(self, chosen: Sequence[int], total: int, random: Generator) -> list[int]:
        """The indices of a film's frames, of `total`, moved and thinned; sorted, never none."""
        return drop(jitter(chosen, total, self.jitter, random), self.drop, random)


def generator(*key: int) -> Generator:
    """Random numbers that `key` alone decides, the same in every process."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def crop(frames: Tensor, most: float, random: Generator) -> Tensor:
    """Cut up to a share `most` off the height and the width, at any place."""
    (tall, wide), (down, right) = torch.rand(2, 2, generator=random).tolist()
    height, width = frames.shape[1:3]
    new_height, new_width = round(height * (1 - most * tall)), round(width * (1 - most * wide))
    top, left = int(down * (height - new_height + 1)), int(right * (width - new_width + 1))
    return frames[:, top : top + max(1, new_height), left : left + max(1, new_width)]


def color(frames: Tensor, most: float, random: Generator) -> Tensor:
    """Change brightness, contrast and saturation by factors within 1 ± `most`."""
    bright, contrast, saturation = (1 + most * (2 * torch.rand(3, generator=random) - 1)).tolist()
    if not most:
        return frames
    values = frames.float() * bright
    middle = values.mean()
    values = (values - middle) * contrast + middle
    gray = values.mean(-1, keepdim=True)
    values = (values - gray) * saturation + gray
    return values.round().clamp(0, 255).to(torch.uint8)


def blur(frames: Tensor, chance: float, random: Generator) -> Tensor:
    """With a `chance`, average each pixel with its neighbours (1 2 1 each way)."""
    if float(torch.rand((), generator=random)) >= chance:
        return frames
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    values = frames.permute(0, 3, 1, 2).float().flatten(0, 1)[:, None]
    values = F.pad(values, (1, 1, 1, 1), mode="replicate")
    values = F.conv2d(F.conv2d(values, kernel.view(1, 1, 3, 1)), kernel.view(1, 1, 1, 3))
    return values[:, 0].unflatten(0, (-1, 3)).permute(0, 2, 3, 1).round().to(torch.uint8)


def flip(frames: Tensor, chance: float, random: Generator) -> Tensor:
    """With a `chance`, mirror left and right."""
    return frames.flip(2) if float(torch.rand((), generator=random)) < chance else frames


def jitter(chosen: Sequence[int], total: int, most: float, random: Generator) -> list[int]:
    """Move each frame by up to a share `most` of half the way to its neighbours; the order stays
    and no frame comes twice."""
    if len(chosen) < 2 or not most:
        return list(chosen)
    gap = (chosen[-1] - chosen[0]) / (len(chosen) - 1)
    moves = (2 * torch.rand(len(chosen), generator=random) - 1) * most * gap / 2
    moved = (torch.tensor(chosen) + moves.round().long()).clamp(0, total - 1)
    return sorted(set(moved.tolist()))


def drop(chosen: Sequence[int], chance: float, random: Generator) -> list[int]:
    """Leave out each frame with a `chance`; one stays at least."""
    stays = (torch.rand(len(chosen), generator=random) >= chance).tolist()
    kept = [index for index, stay in zip(chosen, stays, strict=True) if stay]
    return kept or list(chosen[:1])
