"""The baseline of average pooling."""

from __future__ import annotations

from dataclasses import dataclass

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from sparsight.ops.view_grids import cells_for


@system("pool", title="average neighbouring visual tokens", paper="", group="baseline")
@dataclass(frozen=True)
class Pool:
    """Averages each view's tokens over the cells of a coarser grid of at most that many cells."""

    keep: Budget = knob(0.25, "visual tokens that stay, at most", per="medium")

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        count_of(self.keep, int(tokens.prunable.sum()))  # refuses more than there are
        return tokens.merge(cells_for(tokens.box, tokens.view, tokens.prunable, self.keep))
