"""PLLaVA: parameter-free adaptive 3-D pooling from image LLaVA to video.

A few high-norm visual tokens dominate when many frames are given at once. Averaging the projected
features over space (and time) smooths them, keeps the time axis long and adds no parameter.
arXiv:2404.16994.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.core.tokens import FeatureMap, VisualTokens
from sparsight.ops.regrid import adaptive_pool


@system(
    "pllava",
    title="adaptive 3-D average pooling of projected frame features",
    paper="arXiv:2404.16994",
    official=(
        "published setting: 16 frames of 24 x 24 pooled to 16 x 12 x 12 = 2304 tokens",
        "MVBench 58.1 % on average (with the trained adapter)",
    ),
)
@dataclass(frozen=True)
class PLLaVA:
    """Pools projected features (T, h, w) to `shape`, time first, row by row, without separators.
    A film of fewer than `frames` frames, or a picture, is repeated in place to `frames` first.
    No axis grows: a shape above what there is leaves that axis as it is."""

    shape: tuple[int, ...] = knob((16, 12, 12), "tokens over time, rows and columns", low=1)
    frames: int = knob(16, "frames a shorter film or a picture is repeated to", low=1)

    def check(self) -> None:
        if len(self.shape) != 3:
            raise UserError(f"pllava: shape={self.shape} must be three numbers: time,rows,columns")

    def connect(self, features: FeatureMap) -> VisualTokens:
        order = _repeated(len(features.views), self.frames).to(features.features.device)
        x = features.features[order]
        grid = (
            min(self.shape[0], x.shape[0]),
            min(self.shape[1], x.shape[1]),
            min(self.shape[2], x.shape[2]),
        )
        box = features.box[order]
        area = torch.cat([-_highest(-box[..., :2], grid), _highest(box[..., 2:], grid)], -1)
        count = grid[0] * grid[1] * grid[2]
        time = adaptive_pool(features.time[order][..., None], grid).reshape(count)
        device = x.device
        axes = torch.meshgrid(*[torch.arange(n, device=device) for n in grid], indexing="ij")
        view = order[(axes[0].reshape(count) * x.shape[0]) // grid[0]]
        merged = x.shape[0] * x.shape[1] * x.shape[2] / count
        return VisualTokens(
            embeds=adaptive_pool(x, grid).reshape(count, -1),
            time=time,
            box=area.reshape(count, 4),
            view=view,
            weight=torch.full((count,), merged, device=device),
            prunable=torch.ones(count, dtype=torch.bool, device=device),
            index=torch.arange(count, device=device),
            coords=torch.stack([axis.reshape(count) for axis in axes], 1),
            views=features.views,
            total=count,
            signals={
                name: adaptive_pool(value[order], grid).reshape(count, -1)
                for name, value in features.signals.items()
            },
            extra=tuple(adaptive_pool(e[order], grid).reshape(count, -1) for e in features.extra),
        )


def _repeated(frames: int, wanted: int) -> Tensor:
    """Frame indices, each repeated in place until there are `wanted`; more stay as they are."""
    if frames >= wanted:
        return torch.arange(frames)
    return torch.arange(frames).repeat_interleave(wanted // frames + 1)[:wanted]


def _highest(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """The maximum of (T, h, w, C) over the bins that `adaptive_pool` averages."""
    moved = x.permute(3, 0, 1, 2)[None]
    return functional.adaptive_max_pool3d(moved, grid)[0].permute(1, 2, 3, 0)
