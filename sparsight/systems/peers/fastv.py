"""FastV: an image is worth 1/2 tokens after layer 2.

Before layer K of the LLM, visual tokens are ranked by the attention that the last token paid
them in layer K-1; the rest of the layers see only the best. arXiv:2403.06764.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.llm.edits import Edit, check_layer
from sparsight.llm.layout import Layout
from sparsight.ops.select import top


@dataclass(frozen=True)
class DropByLastToken:
    """The edit before one layer: drop the visual tokens the last token attends to least."""

    layer: int
    keep: Budget
    heads: str = "mean"

    def rows(self, layout: Layout) -> str:
        return "last"

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D); scores (B, 1, L): the last row, averaged over heads."""
        assert scores is not None
        row_scores = scores.reshape(len(hidden), -1)
        keep = ~layout.padding
        for row in range(len(hidden)):
            visual = layout.prunable[row].nonzero()[:, 0]
            if len(visual) == 0:
                continue  # a prompt of text alone, whatever the count
            count = count_of(self.keep, len(visual))
            keep[row, visual] = False
            keep[row, visual[top(row_scores[row, visual], count)]] = True
        return Edit(keep=keep)


@system(
    "fastv",
    title="drop visual tokens before a layer of the LLM by the last token's attention",
    paper="arXiv:2403.06764",
    group="peer",
    official=(
        "LLaVA-1.5-7B, layer 3, keep 0.5: FLOPs 57 %, GQA 62.0 -> 60.4, MME-P 1510.8 -> 1511.7",
        "LLaVA-1.5-13B, A-OKVQA, A100-80: first token 0.203 s -> 0.124 s at keep 0.25",
    ),
)
@dataclass(frozen=True)
class FastV:
    """Keeps the visual tokens that the last prompt token attends to most in the layer before
    `layer` (mean over heads). Kept tokens stay at their positions; all layers before see all."""

    keep: Budget = knob(0.5, "visual tokens that stay from the layer on", per="prompt")
    layer: int = knob(2, "the first layer that sees fewer tokens", low=1)

    def edits(self, depth: int) -> Sequence[DropByLastToken]:
        return [DropByLastToken(check_layer("fastv", self.layer, depth), self.keep)]
