"""Fourier-VLM: compressing vision tokens in the frequency domain.

Most energy of a tower's feature map lies in low spatial frequencies. Each channel is transformed
(2-D DCT), the low-frequency block is kept and transformed back at its own size: a smaller map.
arXiv:2508.06038.

Shapes: V views, h w rows and columns of a view, C tower width, D LLM width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.core.tokens import FeatureMap, VisualTokens, feature_map, pack
from sparsight.ops.dct import low_frequencies
from sparsight.ops.regrid import adaptive_pool


@system(
    "fourier-vlm",
    title="keep the low frequencies of each view's feature map",
    paper="arXiv:2508.06038",
    official=(
        "trained checkpoints on LLaVA-1.5: 16 x 16, 12 x 12, 8 x 8 or 6 x 6 of 24 x 24",
        "LLaVA-1.5: up to 83.8 % fewer inference FLOPs, generation 31.2 % faster",
    ),
)
@dataclass(frozen=True)
class FourierVLM:
    """Shrinks each view's map to `ratio` of its rows and columns, or to `grid`, by cutting off its
    high frequencies, and packs it row by row, without separators. This happens before the
    projector, or after it where the projector joins patches. The published checkpoints are trained
    with maps whose mean grows with the cut; a checkpoint that is not wants rescale=True, which
    keeps the mean. No axis grows."""

    ratio: float = knob(0.5, "rows and columns that stay, as a share of each", low=0, high=1)
    grid: tuple[int, ...] = knob((), "rows,columns that stay, in place of the share", low=1)
    rescale: bool = knob(True, "keep the mean; False for checkpoints trained with the cut")

    def check(self) -> None:
        if len(self.grid) not in (0, 2):
            raise UserError(f"fourier-vlm: grid={self.grid} must be two numbers: rows,columns")

    def connect(self, features: FeatureMap) -> VisualTokens:
        whole = (features.features.shape[1], features.features.shape[2])
        wanted = self.grid or tuple(max(1, int(size * self.ratio)) for size in whole)
        grid = (min(wanted[0], whole[0]), min(wanted[1], whole[1]))
        x = features.features
        if grid != whole and features.raw is not None and features.projector is not None:
            x = features.projector(low_frequencies(features.raw, grid, self.rescale))
        else:
            x = low_frequencies(x, grid, self.rescale)

        views = len(x)
        signals = {
            name: adaptive_pool(value, (views, *grid)) for name, value in features.signals.items()
        }
        extra = tuple(low_frequencies(more, grid, self.rescale) for more in features.extra)
        weight = adaptive_pool(features.weight[..., None], (views, *grid))[..., 0]
        weight = weight * (whole[0] * whole[1] / (grid[0] * grid[1]))
        smaller = feature_map(x, features.views, signals, extra, weight=weight)
        axes = [torch.arange(size, device=x.device) for size in (views, *grid)]
        coords = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
        return pack(smaller, lambda value, _: value.flatten(0, 2), coords=coords)
