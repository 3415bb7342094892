"""EVS: efficient video sampling, which drops the patches of a film that stand still.

A token that is like the one at its position in the frame before says nothing new. One budget holds
for the whole film, so frames with motion keep more. arXiv:2510.14624, by the rules that vLLM ships.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import VisualTokens
from sparsight.ops.frames import cosine_to_previous, filled_forward, frame_table
from sparsight.ops.select import top


@system(
    "evs",
    title="drop film tokens that hardly differ from the frame before",
    paper="arXiv:2510.14624",
    group="peer",
)
@dataclass(frozen=True)
class EVS:
    """Keeps the tokens of a film with the lowest cosine to the token at the same position of the
    frame before. The first frame stays whole, whatever the budget. Kept tokens stay at their
    positions. Pictures pass unchanged."""

    keep: Budget = knob(0.25, "film tokens that stay, a whole frame at least", per="medium")

    def needs(self) -> tuple[Need, ...]:
        return (Need("film"),)

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        if "frame" not in tokens.views.roles or len(candidates) == 0:
            return tokens
        table = frame_table(tokens.view[candidates], tokens.box[candidates])
        x = tokens.embeds[candidates][filled_forward(table)]
        change = torch.full(table.shape, 255.0, device=x.device)  # the first frame is all new
        change[1:] = 1 - cosine_to_previous(x)
        first = int((table[0] >= 0).sum())
        count = max(first, rounded_down(self.keep, len(candidates)))
        scores = change[table >= 0]
        return tokens.keep_prunable(candidates[table[table >= 0][top(scores, count)]])


def rounded_down(keep: Budget, available: int) -> int:
    """A budget whose share is rounded down; a count above what there is is refused."""
    return int(available * keep) if isinstance(keep, float) else count_of(keep, available)
