"""CDPruner: maximizing conditional diversity for token pruning in MLLMs.

Tokens are chosen by a determinantal point process whose kernel is their similarity, scaled by how
relevant each is to the question: what stays is diverse, given the question. arXiv:2506.10967.

Shapes: V views of n tokens, M pieces of text, E width of a space that both share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import Budget, count_of, knob, positions_after, system
from sparsight.core.slots import Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.ops.diversity import largest_determinant
from sparsight.ops.group_rows import group_rows


@system(
    "cdpruner",
    title="keep tokens that are diverse given the question",
    paper="arXiv:2506.10967",
    group="peer",
    official=("LLaVA: FLOPs -95 %, CUDA latency -78 %, 94 % of the accuracy",),
)
@dataclass(frozen=True)
class CDPruner:
    """Keeps, of each view, the tokens that a greedy determinantal choice finds. Their similarity is
    the cosine of their embeddings. The published relevance is a cosine in the joint space of CLIP,
    whose text tower a language model does not have: here it is the cosine with the embeddings of
    the question's tokens, a substitute. As in the released code, a low cosine counts as relevant;
    inverted=False takes a high one, as in the paper. Separator tokens stay."""

    keep: Budget = knob(0.25, "visual tokens that stay", per="view")
    relevance: bool = knob(True, "look at the question; without, diversity alone decides")
    inverted: bool = knob(True, "a low cosine with the question counts as relevant")
    positions: PositionPolicy = positions_after()

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        score = torch.ones(len(tokens), device=tokens.embeds.device)
        if self.relevance and len(request.text_embeds):
            text = request.text_embeds.to(tokens.embeds.device)
            score[candidates] = relevance_to(tokens.embeds[candidates], text, self.inverted)
        kept = [candidates[:0]]
        for rows in group_rows(tokens.view, candidates):
            size = rows.shape[1]
            count = count_of(self.keep, size) if isinstance(self.keep, float) else self.keep
            if count < size:
                kernel = conditional_kernel(tokens.embeds[rows], score[rows])
                rows = rows.gather(1, largest_determinant(kernel, count))
            kept.append(rows.flatten())
        chosen = replace(tokens, score=score).keep_prunable(torch.cat(kept))
        return replace(chosen, positions=self.positions)


def relevance_to(x: Tensor, text: Tensor, inverted: bool = True) -> Tensor:
    """How relevant tokens (..., E) are to pieces of text (M, E): (...), from about 0 to 1.

    The mean cosine with all pieces, turned round where `inverted`, stretched over all given.
    """
    x, text = functional.normalize(x.float(), dim=-1), functional.normalize(text.float(), dim=-1)
    cosine = (x @ text.mT).mean(-1)
    value = -cosine if inverted else cosine
    low, high = value.min(), value.max()
    spread = torch.where(high > low, high - low, 1.0)
    return torch.where(high > low, (value - low + 1e-6) / spread, 1.0)


def conditional_kernel(x: Tensor, relevance: Tensor) -> Tensor:
    """Cosines of (V, n, D) tokens, scaled by the relevance (V, n) of both: (V, n, n)."""
    unit = functional.normalize(x.float(), dim=-1)
    return relevance[:, :, None] * (unit @ unit.mT) * relevance[:, None, :]
