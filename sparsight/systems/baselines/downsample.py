"""The baseline of a smaller picture: one token of each cell of a coarser grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from sparsight.ops.view_grids import cells_for, middle_of_cells


@system("downsample", title="keep the grid of a smaller view", paper="", group="baseline")
@dataclass(frozen=True)
class Downsample:
    """Keeps, of each cell of a coarser grid over each view, the token nearest the cell's middle:
    the grid that a smaller view would have had."""

    keep: Budget = knob(0.25, "visual tokens that stay, at most", per="medium")

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        count_of(self.keep, int(tokens.prunable.sum()))  # refuses more than there are
        cells = cells_for(tokens.box, tokens.view, tokens.prunable, self.keep)
        chosen = middle_of_cells(tokens.box, cells)
        return tokens.keep_prunable(chosen[torch.isin(chosen, tokens.prunable.nonzero()[:, 0])])
