"""FasterVLM: [CLS] attention is all you need for training-free visual token pruning.

The attention of the tower's CLS token to the patches is a concentrated and unbiased score, where
text-to-image attention inside the LLM is shifted towards late tokens and spread thin. The top
patches of each view by that score enter the LLM, in spatial order. arXiv:2412.01818.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from sparsight.core.registry import Budget, count_of, knob, positions_after, system, tower_score
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.ops.select import top_per_group


@system(
    "fastervlm",
    title="keep the patches that the tower's CLS token attends to most",
    paper="arXiv:2412.01818",
    official=(
        "LLaVA-1.5-7B, 95 % of visual tokens pruned: 90 % of the performance is kept",
        "settings: 288, 144, 58 or 29 of 576 tokens; LLaVA-NeXT: the same for each partition",
    ),
)
@dataclass(frozen=True)
class FasterVLM:
    """Keeps, of each view, the tokens with the highest CLS attention (mean over heads) of the
    tower block that produces the features. Separator tokens stay. With score="received" the mean
    attention that a patch receives takes its place, for towers without CLS; that is a
    substitute, not the published method."""

    keep: Budget = knob(0.25, "visual tokens that stay", per="view")
    score: Literal["cls", "received"] = tower_score()
    positions: PositionPolicy = positions_after()

    def needs(self) -> tuple[Need, ...]:
        return (Need(f"{self.score}_attention"),)

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        score = tokens.signals[f"{self.score}_attention"].mean(-1)
        candidates = tokens.prunable.nonzero()[:, 0]
        _, group = tokens.view[candidates].unique(return_inverse=True)
        sizes = group.bincount()
        largest = count_of(self.keep, int(sizes.max()), "tokens of a view")
        if isinstance(self.keep, float):
            quota = torch.tensor([count_of(self.keep, size) for size in sizes.tolist()])
        else:  # views cut by unpadding may hold less than the count: they stay whole
            quota = torch.full((len(sizes),), largest)
        chosen = top_per_group(score[candidates], group, quota.to(group.device))
        kept = replace(tokens, score=score).keep_prunable(candidates[chosen])
        return replace(kept, positions=self.positions)
