"""The baseline of equal strides."""

from __future__ import annotations

from dataclasses import dataclass

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from sparsight.ops.select import even


@system("uniform", title="keep visual tokens at equal stride", paper="", group="baseline")
@dataclass(frozen=True)
class Uniform:
    """Keeps tokens at equal stride over each medium's sequence, the first and the last included."""

    keep: Budget = knob(0.25, "visual tokens that stay", per="medium")

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        count = count_of(self.keep, len(candidates))
        return tokens.keep_prunable(candidates[even(len(candidates), count).to(candidates.device)])
