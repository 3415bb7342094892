"""A film cut into sub-clips of equal length, for towers that read several frames as one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def sub_clips(frames: int, clips: int, split: Literal["strided", "block"] = "strided") -> Tensor:
    """The frames of each sub-clip, (clips, frames / clips) long.

    "strided": sub-clip j holds frames j, j + clips, j + 2 clips, ..., so each spans the film;
    "block": neighbouring frames. `frames` must be a multiple of `clips`.
    """
    order = torch.arange(frames)
    return order.view(-1, clips).mT if split == "strided" else order.view(clips, -1)


def encoding_order(clips: Tensor, together: int = 1) -> Tensor:
    """The order in which to encode the frames (m, n) of sub-clips, all in one film.

    A tower that reads `together` frames as one, and nothing across, then gives what it would give
    for each sub-clip alone, its features put back in time order: by the first frame each was made
    of. A sub-clip whose length is no multiple of `together` repeats its last frame. With one frame
    at a time this is the film as it is.
    """
    rest = -clips.shape[1] % together
    padded = torch.cat([clips, clips[:, -1:].expand(-1, rest)], 1)
    groups = padded.reshape(-1, together)
    return groups[groups[:, 0].argsort(stable=True)].flatten()
