"""VisionZip: longer is better but not necessary in vision language models.

Of each view the CLS token and the patches that it attends to most stay as they are ("dominant");
of the other patches some at equal stride stay as targets, and each of the rest is added to the
target whose keys are most like its own ("contextual"). arXiv:2412.04467.

Shapes: V views of n tokens, c contextual tokens, C channels.
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


@system(
    "visionzip",
    title="keep the patches CLS attends to most, merge the rest into a few",
    paper="arXiv:2412.04467",
    group="peer",
    official=("published settings: 192, 128 or 64 of 576 tokens, 10 in 64 of them contextual",),
)
@dataclass(frozen=True)
class VisionZip:
    """Keeps `keep` tokens of each view: CLS, then dominant patches in spatial order, then
    contextual tokens, each a target plus the mean of what was assigned to it. Merging happens on
    the tower's features, before the projector. Where the projector joins patches, projected tokens
    are merged, and a further patch takes the place of CLS. A view that the budget covers stays as
    it is. Separator tokens stay. score="received" takes the mean attention a patch receives in
    place of that of CLS, for towers without one, and adds no CLS token."""

    keep: Budget = knob(0.25, "visual tokens that stay, CLS and contextual included", per="view")
    contextual: float = knob(0.15625, "share of them that is merged", low=0, high=1)
    score: Literal["cls", "received"] = tower_score()
    positions: PositionPolicy = positions_after()

    def needs(self) -> tuple[Need, ...]:
        cls = (Need("cls_feature"),) if self.score == "cls" else ()
        return (Need(f"{self.score}_attention"), Need("keys"), Need("features"), *cls)

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        attention = tokens.signals[f"{self.score}_attention"]
        metric = tokens.signals["keys"].unflatten(-1, (attention.shape[-1], -1)).mean(-2)
        tokens = replace(
            tokens,
            score=attention.sum(-1),
            embeds=tokens.embeds.clone(),
            weight=tokens.weight.clone(),
            box=tokens.box.clone(),
        )
        separators = (~tokens.prunable).nonzero()[:, 0]
        sources, places = [separators], [separators]
        for rows in group_rows(tokens.view, tokens.prunable.nonzero()[:, 0]):
            source, taken = self._shortened(tokens, rows, metric)
            sources.append(source.flatten())
            places.append(taken.flatten())
        kept = tokens.placed(torch.cat(sources), torch.cat(places))
        return replace(kept, positions=self.positions)

    def _shortened(
        self, tokens: VisualTokens, rows: Tensor, metric: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shorten views whose tokens are `rows` (V, n): the tokens (V, k) in their order, and the
        places they take. What is merged is written over the embeddings of its target, CLS over
        those of a token that goes."""
        size = rows.shape[1]
        count = count_of(self.keep, size) if isinstance(self.keep, float) else self.keep
        if count >= size:
            return rows, rows
        with_cls = int(tokens.projector is not None and "cls_feature" in tokens.signals)
        merged = min(round(count * self.contextual), count - 1)
        assert tokens.score is not None
        order = tokens.score[rows].argsort(dim=1, descending=True, stable=True)
        dominant, rest = order.split(
            [count - merged - with_cls, size - count + merged + with_cls], 1
        )
        stride = max(1, rest.shape[1] // max(1, merged))
        is_target = torch.zeros(rest.shape[1], dtype=torch.bool)
        is_target[: merged * stride : stride] = True
        rest = rows.gather(1, rest.sort(dim=1).values)
        target, other = (
            rest[:, at.nonzero()[:, 0].to(rows.device)] for at in (is_target, ~is_target)
        )
        if merged:
            _merge(tokens, target, other, metric)
        kept = [rows.gather(1, dominant.sort(dim=1).values), target]
        if with_cls:
            gone = other[:, 0]
            assert tokens.projector is not None
            feature = tokens.signals["cls_feature"][gone].to(tokens.embeds.dtype)
            tokens.embeds[gone] = tokens.projector(feature)
            tokens.box[gone] = tokens.views.boxes.to(tokens.box)[tokens.view[gone]]
            kept.insert(0, gone[:, None])
        source = torch.cat(kept, 1)
        return source, source.sort(dim=1).values


def _merge(tokens: VisualTokens, target: Tensor, other: Tensor, metric: Tensor) -> None:
    """Add to each token of `target` (V, c) the mean of those of `other` (V, m) most like it."""
    unit = functional.normalize(metric.float(), dim=-1)
    nearest = (unit[other] @ unit[target].mT).argmax(-1)
    x = tokens.embeds if tokens.projector is None else tokens.signals["features"]
    count = torch.zeros(target.shape, device=x.device)
    count = count.scatter_add(1, nearest, torch.ones_like(nearest, dtype=torch.float32))
    index = nearest[..., None].expand(-1, -1, x.shape[1])
    added = torch.zeros(*target.shape, x.shape[1], device=x.device)
    added = added.scatter_add(1, index, x[other].float()) / count.clamp_min(1)[..., None]
    merged = (x[target].float() + added).to(tokens.embeds.dtype)
    tokens.embeds[target] = merged if tokens.projector is None else tokens.projector(merged)
    tokens.weight[target] = tokens.weight[target].scatter_add(1, nearest, tokens.weight[other])
