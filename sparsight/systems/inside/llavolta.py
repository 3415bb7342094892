"""LLaVolta: efficient multi-modal models via stage-wise visual context compression.

Before one layer of the LLM, every few neighbouring visual tokens are averaged into one, at their
mean position. In training this is relaxed stage by stage until nothing is compressed; here it is
the compressor alone, as used at test time. arXiv:2406.20092.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsight.core.registry import knob, system
from sparsight.llm.edits import Edit, check_layer
from sparsight.llm.layout import Layout
from sparsight.ops.runs import groups_in_runs


@dataclass(frozen=True)
class AverageNeighbours:
    """The edit before one layer: average every `stride` neighbouring visual tokens."""

    layer: int
    stride: int

    def rows(self, layout: Layout) -> None:
        return None

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D) -> the mean of each group in its middle token, which alone stays."""
        group, middle = groups_in_runs(layout.prunable, layout.media, self.stride)
        batch, length, width = hidden.shape
        # Tokens of no group are added to a row past the end, which is not read.
        slot = torch.where(group < 0, length, group)
        index = slot[..., None].expand(-1, -1, width)
        total = torch.zeros(batch, length + 1, width, device=hidden.device)
        total = total.scatter_add(1, index, hidden.float())
        count = torch.zeros(batch, length + 1, device=hidden.device)
        count = count.scatter_add(1, slot, torch.ones_like(slot, dtype=torch.float32))
        mean = (total / count.clamp_min(1)[..., None]).gather(1, index).to(hidden.dtype)
        merged = torch.where(middle[..., None], mean, hidden)
        # Consecutive positions: their mean, rounded down, is that of the middle token.
        return Edit(keep=~layout.padding & (~layout.prunable | middle), hidden=merged)


@system(
    "llavolta",
    title="average neighbouring visual tokens before a layer of the LLM",
    paper="arXiv:2406.20092",
    official=(
        "at test time alone, 70 % of the visual tokens averaged away: about 3 % on GQA",
        "published stages of training: layer 2 by 8, layer 2 by 2, layer 16 by 2, none",
    ),
)
@dataclass(frozen=True)
class LLaVolta:
    """Averages every `stride` neighbouring visual tokens, in raster order, into one before
    `layer`; all layers before see all. A row of fewer tokens at the end is averaged too, where the
    released code drops it. Separator tokens stay and part the rows."""

    layer: int = knob(2, "the first layer that sees fewer tokens", low=1)
    stride: int = knob(8, "neighbouring tokens averaged into one", low=1)

    def edits(self, depth: int) -> Sequence[AverageNeighbours]:
        layer = check_layer("llavolta", self.layer, depth)
        return [AverageNeighbours(layer, self.stride)] if self.stride > 1 else []
