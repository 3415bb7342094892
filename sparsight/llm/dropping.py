"""The edit that most systems inside the LLM make: the visual tokens attended to least go.

Shape suffixes: B batch, L sequence, R rows of scores, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sparsight.llm.edits import Edit
from sparsight.llm.layout import Layout
from sparsight.ops.row_choice import best_in_rows, columns_of, mean_of_first


@dataclass(frozen=True)
class KeepAttended:
    """Before `layer`, keep the prunable tokens of each row that its query attends to most.

    quota      (B,) tokens that stay, from the layout at the layer
    query      whose attention (mean over heads) counts: the last token's, or the mean over the
               text behind the last visual token
    ahead      the attention in the layer to come instead of the one before it
    positions  of what stays
    """

    layer: int
    quota: Callable[[Layout], Tensor]
    query: Literal["last", "text"] = "last"
    ahead: bool = False
    positions: Literal["keep", "renumber"] = "keep"
    heads: ClassVar = "mean"

    def rows(self, layout: Layout) -> Tensor | str:
        """Which attention rows to read: the last, or (B, R) columns."""
        return "last" if self.query == "last" else columns_of(layout.words)

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D); scores (B, R, L), averaged over heads."""
        assert scores is not None
        count = layout.words.sum(1)
        score = scores[:, 0] if self.query == "last" else mean_of_first(scores, count)
        best = best_in_rows(score, layout.prunable, self.quota(layout))
        return Edit(~layout.prunable & ~layout.padding | best, positions=self.positions)
