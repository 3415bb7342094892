"""LLaVA-PruMerge and PruMerge+: adaptive token reduction for efficient large multimodal models.

The attention of the CLS token in the tower's last block has outliers; as many patches as there
are outliers stay, PruMerge+ adds patches at equal stride. To each is added what the patches of
the most similar keys hold, weighted by their attention, and one more token gathers all that goes.
arXiv:2403.15388.

Shapes: V views of n tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import Budget, count_of, knob, positions_after, system, tower_score
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.ops.group_rows import group_rows
from sparsight.ops.select import even


@system(
    "prumerge",
    title="keep the outliers of CLS attention, add similar patches to each",
    paper="arXiv:2403.15388",
    group="peer",
    official=("LLaVA-1.5: about 32 of 576 tokens on average; PruMerge+ about a quarter",),
)
@dataclass(frozen=True)
class PruMerge:
    """Keeps, of each view, the patches whose CLS attention in the last block is an outlier (above
    the third quartile plus 1.5 interquartile ranges), in falling order, plus=True further ones at
    equal stride, and one token that sums all others. Merging happens before the projector; where
    the projector joins patches, projected tokens are merged. adaptive=False keeps `keep` tokens in
    place of the outliers, the last one included; with plus=True a quarter of them by attention.
    Separator tokens stay. score="received" takes the mean attention a patch receives in place of
    that of CLS, for towers without one."""

    plus: bool = knob(False, "PruMerge+: also keep patches at equal stride")
    adaptive: bool = knob(True, "keep as many as there are outliers, whatever the budget")
    keep: Budget = knob(0.125, "visual tokens that stay where not adaptive", per="view")
    neighbours: int = knob(32, "similar patches added to each that stays", low=0)
    score: Literal["cls", "received"] = tower_score()
    positions: PositionPolicy = positions_after()

    def needs(self) -> tuple[Need, ...]:
        return (self._attention, Need("keys", "last"), Need("features"))

    @property
    def _attention(self) -> Need:
        name = "cls_attention_joined" if self.score == "cls" else "received_attention"
        return Need(name, "last")

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        score = tokens.signals[self._attention.key].mean(-1)
        tokens = replace(tokens, score=score, embeds=tokens.embeds.clone())
        separators = (~tokens.prunable).nonzero()[:, 0]
        sources, places = [separators], [separators]
        for rows in group_rows(tokens.view, tokens.prunable.nonzero()[:, 0]):
            source, taken = self._shortened(tokens, rows)
            sources.append(source)
            places.append(taken)
        kept = tokens.placed(torch.cat(sources), torch.cat(places))
        return replace(kept, positions=self.positions)

    def _shortened(self, tokens: VisualTokens, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten views whose tokens are `rows` (V, n): what stays, in its order, and the places
        it takes. Merged values are written over the embeddings of what stays, the sum of what
        goes over those of the first that goes."""
        size = rows.shape[1]
        if not self.adaptive:
            count = count_of(self.keep, size) if isinstance(self.keep, float) else self.keep
            if count >= size:
                return rows.flatten(), rows.flatten()
        assert tokens.score is not None
        score = tokens.score[rows]
        order, kept = self._adaptive(score) if self.adaptive else self._fixed(score, count)
        order = rows.gather(1, order)
        _merge(tokens, order, kept, self.neighbours)
        # A budget of one has no room for the token that gathers the rest.
        rest = 0 if not self.adaptive and count == 1 else 1
        stays = torch.arange(size, device=rows.device) < kept[:, None] + rest
        source = order[stays]
        places = order.masked_fill(~stays, len(tokens)).sort(1).values[stays]
        return source, places

    def _adaptive(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """(V, n) scores -> (V, n) order of the tokens, and how many of each view stay (V,)."""
        size = score.shape[1]
        low, high = score.quantile(torch.tensor([0.25, 0.75], device=score.device), dim=1)
        top = (score > (high + 1.5 * (high - low))[:, None]).sum(1).clamp_min(1)
        rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        if not self.plus:
            return rank.argsort(dim=1), top
        place = torch.arange(size, device=score.device)
        # A share of outliers above a third would be a stride of 0: every patch.
        stride = (size // top // 3).clamp_min(1)[:, None]
        at_stride = (place % stride == 0) & (place < size - 1)
        best = rank < top[:, None]
        late = torch.where(at_stride, size + place, 2 * size + place)
        return torch.where(best, rank, late).argsort(dim=1), (best | at_stride).sum(1)

    def _fixed(self, score: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """As `_adaptive`, for `count` tokens a view, the one that gathers the rest included."""
        count = max(1, count - 1)
        order = score.argsort(dim=1, descending=True, stable=True)
        if self.plus:
            top = max(1, round(count / 4))
            rest = order[:, top:].sort(dim=1).values
            chosen = torch.zeros(rest.shape[1], dtype=torch.bool, device=score.device)
            if count > top:
                chosen[even(rest.shape[1], count - top).to(score.device)] = True
            order = torch.cat([order[:, :top], rest[:, chosen], rest[:, ~chosen]], 1)
        return order, torch.full((len(score),), count, device=score.device)


def _merge(tokens: VisualTokens, order: Tensor, kept: Tensor, neighbours: int) -> None:
    """Merge views whose tokens are `order` (V, n), of which the first `kept` (V,) stay: write the
    merged embeddings over those that stay, and the sum of what goes over the first that goes."""
    assert tokens.score is not None
    size, longest = order.shape[1], int(kept.max())
    x = tokens.embeds if tokens.projector is None else tokens.signals["features"]
    x, score = x[order].float(), tokens.score[order].float()
    unit = functional.normalize(tokens.signals["keys@last"][order].float(), dim=-1)
    alike = unit[:, :longest] @ unit.mT
    alike.diagonal(dim1=1, dim2=2).fill_(-torch.inf)  # `order` begins with those that stay
    nearest = alike.topk(min(neighbours, size - 1)).indices
    share = torch.zeros_like(alike).scatter_(2, nearest, 1.0) * score[:, None]
    merged = x[:, :longest] + share @ x
    rank = torch.arange(size, device=order.device)
    stays, goes = rank < kept[:, None], rank >= kept[:, None]
    rest = ((goes * score)[:, None] @ x)[:, 0]
    some = kept < size
    values = torch.cat([merged[stays[:, :longest]], rest[some]]).to(tokens.embeds.dtype)
    target = torch.cat([order[stays], order[rank == kept[:, None]]])
    tokens.embeds[target] = values if tokens.projector is None else tokens.projector(values)
