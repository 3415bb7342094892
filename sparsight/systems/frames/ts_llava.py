"""TS-LLaVA: a thumbnail and sampled tokens, to run an image LLM on a film.

One composite picture tiles a few equidistant frames (full detail of one encoded picture); beside
it a fixed number of tokens is picked at equal stride from the tokens of all frames (coverage).
The published variants are settings: X samples=0; Z samples=0,grids=0; V and Y (order=thumbnail)
one thumbnail; U and W (order=thumbnail) grids=2 or 3. arXiv:2411.11066.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import FeatureMap, VisualTokens, pack
from sparsight.ops.regrid import thumbnail
from sparsight.ops.select import even


@system(
    "ts-llava",
    title="a thumbnail of key frames plus tokens sampled over all frames",
    paper="arXiv:2411.11066",
    official=(
        "published setting: 50 frames, a 6-frame thumbnail, 2880 + 576 = 3456 tokens",
        "34B: above GPT-4V on MVBench, near the 72B Video-LLaMA2 on MLVU",
    ),
)
@dataclass(frozen=True)
class TSLLaVA:
    """Takes `frames` frames (segment centres), tiles `thumbnail` of them into one further view,
    and gives the LLM `samples` tokens at equal stride over all frames' tokens together with the
    thumbnail's tokens. Fewer tokens than `samples` are all taken. With `grids`, several such
    views follow each other in time; a short film fills fewer."""

    frames: int = knob(50, "frames of the film", low=1)
    thumbnail: int = knob(6, "frames tiled into the thumbnail; 0 for no thumbnail", low=0)
    grids: int = knob(1, "thumbnails; 0 for as many as all frames fill, a rest left out", low=0)
    samples: int = knob(2880, "tokens sampled over all frames; 0 for the thumbnail alone", low=0)
    order: Literal["samples", "thumbnail"] = knob(
        "samples", "which group comes first", choices=("samples", "thumbnail")
    )

    def check(self) -> None:
        if self.thumbnail == 0 and self.samples == 0:
            raise UserError("ts-llava: thumbnail=0 and samples=0 leave nothing: raise one of them")

    def needs(self) -> tuple[Need, ...]:
        return (Need("film"), Need("square_views"))

    def select(self, clip: Clip, request: Request) -> list[int]:
        return segment_centres(len(clip), self.frames)

    def tile(self, pixels: Tensor) -> Tensor:
        """Frames (T, 3, S, S) -> (K, 3, S, S) thumbnails, or none."""
        if self.thumbnail == 0:
            return pixels[:0]
        total, side = len(pixels), pixels.shape[-1]
        each = min(self.thumbnail, total)
        if self.grids == 0:  # all frames, one after the other
            chosen = torch.arange(total // each * each)
        else:
            chosen = even(total, min(self.grids, total // each) * each)
        groups = pixels[chosen.to(pixels.device)].split(each)
        tiled = torch.stack([thumbnail(group, (side, side)) for group in groups])
        # A grid that does not divide the side leaves a margin: fill it, right and below.
        return functional.pad(tiled, (0, side - tiled.shape[3], 0, side - tiled.shape[2]))

    def connect(self, features: FeatureMap) -> VisualTokens:
        roles = features.views.roles
        frames = sum(role == "frame" for role in roles)
        size = features.features.shape[1] * features.features.shape[2]
        total = frames * size
        device = features.features.device
        sampled = even(total, min(self.samples, total)) if self.samples else torch.arange(0)
        thumb = torch.arange(total, len(roles) * size)
        groups = [sampled, thumb] if self.order == "samples" else [thumb, sampled]
        order = torch.cat(groups).to(device)
        grid = torch.stack(
            torch.meshgrid(
                *[torch.arange(n, device=device) for n in features.features.shape[:3]],
                indexing="ij",
            ),
            -1,
        )
        return pack(features, lambda x, _: x.flatten(0, 2)[order], coords=grid.flatten(0, 2)[order])


def segment_centres(total: int, wanted: int) -> list[int]:
    """The frame at the centre of each of `wanted` equal segments, borders rounded half to even."""
    wanted = min(total, wanted)
    segment = (total - 1) / wanted
    return [(round(segment * i) + round(segment * (i + 1))) // 2 for i in range(wanted)]
