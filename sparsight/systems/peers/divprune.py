"""DivPrune: diversity-based visual token pruning for large multimodal models.

Tokens are chosen one after the other, each the farthest from its nearest chosen one (max-min
diversity on the cosine distance of projected tokens). It looks at no attention and no prompt.
arXiv:2503.02175.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sparsight.core.registry import Budget, count_of, knob, positions_after, system
from sparsight.core.slots import Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.ops.diversity import cosine_distance, max_min


@system(
    "divprune",
    title="keep the visual tokens that differ most from one another",
    paper="arXiv:2503.02175",
    group="peer",
    official=("published setting: 0.098 of the visual tokens stay",),
)
@dataclass(frozen=True)
class DivPrune:
    """Keeps the tokens of each medium that a greedy max-min choice on the cosine distance of
    their embeddings finds. Separator tokens stay and take no part in the choice. The distances of
    all N tokens to each other are held at once, N * N numbers."""

    keep: Budget = knob(0.098, "visual tokens that stay", per="medium")
    positions: PositionPolicy = positions_after()

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        count = count_of(self.keep, len(candidates))
        if count == len(candidates):
            return tokens
        distance = cosine_distance(tokens.embeds[candidates][None])
        chosen = max_min(distance, count)[0]
        return replace(tokens.keep_prunable(candidates[chosen]), positions=self.positions)
