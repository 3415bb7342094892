"""DAMRO: answers held against those of a model that sees the tower's outliers alone.

The CLS token of a vision tower attends to a few patches of the background, and the LLM follows it
there, which goes with objects that are not in the picture. So a second prompt is read along in
which just these patches stand for the picture; what it favours is subtracted from every token's
logits. arXiv:2410.04514.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system, tower_score
from sparsight.core.slots import Need
from sparsight.core.tokens import VisualTokens
from sparsight.ops.contrast import contrast
from sparsight.ops.select import ranked_per_group


@system(
    "damro",
    title="hold every token against a prompt that shows the tower's outlier patches alone",
    paper="arXiv:2410.04514",
    official=(
        "fewer hallucinated objects than greedy decoding on POPE, CHAIR and a part of MME",
        "settings: LLaVA-1.5 and LLaVA-NeXT k=10, alpha=2; beta=0.1; each token is sampled",
    ),
)
@dataclass(frozen=True)
class DAMRO:
    """In the second prompt stand the `k` tokens of each view that CLS attends to most, in the block
    that produces the features, best first, and one newline where the family's packing has any. Of
    a picture cut into tiles only the thumbnail counts. Where the projector joins patches, a token
    has the mean attention of its patches. Of films, which the paper leaves out, each frame is a
    view. A token of the answer is ruled out below the share `beta` of the likeliest one's
    probability, both without the contrast. With score="received" the mean attention that a patch
    receives takes the place of CLS, for towers without it; that is a substitute, not the published
    method. alpha=0 with beta=0 changes nothing."""

    k: int = knob(10, "outlier tokens of each view", low=1)
    alpha: float = knob(2.0, "how much the second prompt is held against a token", low=0)
    beta: float = knob(0.1, "least share of the likeliest token's probability", low=0, high=1)
    heads: Literal["mean", "full-width"] = knob(
        "mean",
        "mean over heads, or all taken as one head as in the released code for LLaVA",
        choices=("mean", "full-width"),
    )
    score: Literal["cls", "received"] = tower_score()

    def check(self) -> None:
        if self.heads == "full-width" and self.score == "received":
            raise UserError("damro: heads=full-width reads CLS: leave out score=received")

    @property
    def _need(self) -> Need:
        joined = "_joined" if self.heads == "full-width" else ""
        return Need(f"{self.score}_attention{joined}")

    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    def against(self, tokens: VisualTokens) -> VisualTokens:
        """The outliers, which are chosen behind the projector: it maps every patch by itself."""
        score = tokens.signals[self._need.key].mean(-1)
        roles = tokens.views.roles
        shown = tokens.prunable & (tokens.view >= 0)
        if "tile" in roles and "thumbnail" in roles:
            thumbnail = torch.tensor([role == "thumbnail" for role in roles])
            shown &= thumbnail.to(shown.device)[tokens.view]
        candidates = shown.nonzero()[:, 0]
        _, view = tokens.view[candidates].unique(return_inverse=True)
        sizes = view.bincount()
        least = int(sizes.min())
        if self.k > least:
            raise UserError(f"damro: k={self.k} is more than the {least} tokens of a view")
        best = candidates[ranked_per_group(score[candidates], view, torch.full_like(sizes, self.k))]
        newline = (tokens.view < 0).nonzero()[:, 0][-1:]
        # Each stands in a place of its own view, so that what the prompt says between views fits.
        places = torch.cat([best.view(-1, self.k).sort(dim=1).values.flatten(), newline])
        chosen = replace(tokens, score=score).placed(torch.cat([best, newline]), places)
        return replace(chosen, positions="renumber")

    def decoding(self, logits: Tensor, second: Tensor) -> Tensor:
        return contrast(logits, second, self.alpha, self.beta)
