"""VisPruner: exploiting visual cues for effective token pruning in VLMs.

Of the budget one part goes to the patches that the CLS token attends to most, the other to what
is left of the rest when patches that resemble others are removed, round by round.
arXiv:2412.01818.

Shapes: V views of n tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sparsight.core.registry import Budget, count_of, knob, positions_after, system, tower_score
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.ops.diversity import thin_out
from sparsight.ops.group_rows import group_rows


@system(
    "vispruner",
    title="keep patches CLS attends to and, of the rest, diverse ones",
    paper="arXiv:2412.01818",
    group="peer",
    official=("published settings: 128, 64 or 32 of 576 tokens, half of them important",),
)
@dataclass(frozen=True)
class VisPruner:
    """Keeps, of each view, `important` of the budget by CLS attention (mean over heads) and the
    rest by diversity: other patches, in the order of their attention, lose those at even places
    whose features are most like one at an odd place, until the budget is met. Separator tokens
    stay. score="received" takes the mean attention a patch receives in place of that of CLS, for
    towers without one."""

    keep: Budget = knob(0.25, "visual tokens that stay", per="view")
    important: float = knob(0.5, "share of them chosen by attention", low=0, high=1)
    step: int = knob(8, "patches removed in a round, at most", low=1)
    score: Literal["cls", "received"] = tower_score()
    positions: PositionPolicy = positions_after()

    def needs(self) -> tuple[Need, ...]:
        return (Need(f"{self.score}_attention"), Need("features"))

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        score = tokens.signals[f"{self.score}_attention"].mean(-1)
        features = tokens.signals["features"]
        candidates = tokens.prunable.nonzero()[:, 0]
        kept = [
            self._kept(rows, score, features).flatten()
            for rows in group_rows(tokens.view, candidates)
        ]
        chosen = torch.cat([candidates[:0], *kept])
        return replace(replace(tokens, score=score).keep_prunable(chosen), positions=self.positions)

    def _kept(self, rows: Tensor, score: Tensor, features: Tensor) -> Tensor:
        """What stays of views whose tokens are `rows` (V, n): (V, k)."""
        size = rows.shape[1]
        count = count_of(self.keep, size) if isinstance(self.keep, float) else self.keep
        if count >= size:
            return rows
        order = rows.gather(1, score[rows].argsort(dim=1, descending=True, stable=True))
        important = int(count * self.important)
        if important == count:
            return order[:, :count]
        rest = order[:, important:]
        diverse = rest.gather(1, thin_out(features[rest], count - important, self.step))
        return torch.cat([order[:, :important], diverse], 1)
