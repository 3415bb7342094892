"""The baseline every method must beat: tokens kept at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsight.core.registry import Budget, count_of, knob, system
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens


@system("random", title="keep visual tokens at random", paper="", group="baseline")
@dataclass(frozen=True)
class Random:
    """Keeps a random subset of each medium's tokens, the same for the same seed, in order."""

    keep: Budget = knob(0.25, "visual tokens that stay", per="medium")
    seed: int = knob(0, "seed of the choice", low=0)

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        count = count_of(self.keep, len(candidates))
        # On the CPU whatever the device, so that a seed keeps the same tokens everywhere.
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(candidates), generator=generator)
        return tokens.keep_prunable(candidates[order[:count].to(candidates.device)])
