"""FlashVID: attentive and diverse tokens stay, the others merge in trees over time, then in space.

Of each frame some tokens stay as they are: those that are looked at and differ from one another.
Each of the others follows the most similar token of the frame before; such trees become one token,
and what is left of a frame is clustered. Deep in the LLM the last token's attention chooses again.
ICLR 2026 (openreview H6rDX4w6Al).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sparsight.core.registry import knob, system
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import VisualTokens
from sparsight.llm.dropping import KeepAttended
from sparsight.llm.edits import check_layer
from sparsight.llm.layout import Layout
from sparsight.ops.cluster import dpc_knn
from sparsight.ops.diversity import cosine_distance, max_min
from sparsight.ops.frames import filled_forward, frame_table
from sparsight.ops.row_choice import share_of
from sparsight.ops.segment import segments_by_likeness
from sparsight.ops.token_trees import token_trees, tree_means

NEIGHBOURS = 7  # of the clustering, or as many as there are clusters


def rounded_up(layout: Layout, share: float) -> Tensor:
    """(B,) that share of each row's prunable tokens, rounded up."""
    return share_of(layout.prunable.sum(1), share, "up")


@system(
    "flashvid",
    title="keep attentive, diverse film tokens; merge the others over time and space",
    paper="openreview H6rDX4w6Al (ICLR 2026)",
    group="peer",
    official=("published settings: keep 0.25 or 0.1, inside 0.3 from layer 20",),
)
@dataclass(frozen=True)
class FlashVID:
    """Brings each frame of a film to about keep * expansion of its tokens. The share `alpha` of
    them is chosen greedily by distance from what is chosen, times attention. The film is cut into
    segments where frames differ; in each, trees of similar tokens are averaged into their earliest
    token and the rest of each frame is clustered, a mean standing at its centre. Before `layer` of
    the LLM the share `inside` of all visual tokens stays, by the last token's attention. Pictures
    pass the first part unchanged. With `compat` a tree's sum is divided by one and the number of
    its root's children, as in the released code, which makes the means of long trees too large."""

    keep: float = knob(0.25, "share of the film tokens, averaged over the LLM", low=0, high=1)
    expansion: float = knob(1.25, "how many more enter the LLM, to be dropped inside", low=1)
    alpha: float = knob(0.7, "share of a frame's tokens that stay as they are", low=0, high=1)
    link: float = knob(0.8, "cosine above which a token joins one of the frame before", high=1)
    cut: float = knob(0.9, "cosine of frames below which a segment ends", high=1)
    segments: int = knob(8, "segments of a film at least; 1 to cut by `cut` alone", low=1)
    score: Literal["cls", "received", "none"] = knob(
        "received",
        "attention of CLS, attention received from all patches, or diversity alone",
        choices=("cls", "received", "none"),
    )
    inside: float = knob(0.3, "share of the visual tokens that stays from `layer` on", high=1)
    layer: int = knob(20, "the first layer of the LLM that sees fewer tokens", low=1)
    compat: bool = knob(False, "divide the sums of trees as the released code does")

    def needs(self) -> tuple[Need, ...]:
        scored = () if self.score == "none" else (Need(f"{self.score}_attention"),)
        return (Need("film"), *scored)

    def edits(self, depth: int) -> Sequence[KeepAttended]:
        layer = check_layer("flashvid", self.layer, depth)
        return [KeepAttended(layer, partial(rounded_up, share=self.inside))]

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        if "frame" not in tokens.views.roles or len(candidates) == 0:
            return tokens
        table = frame_table(tokens.view[candidates], tokens.box[candidates])
        budget = math.ceil(table.shape[1] * self.keep * self.expansion)
        if budget >= table.shape[1]:
            return tokens
        place = candidates[filled_forward(table)]
        x, there = tokens.embeds[place].float(), table >= 0
        weight = there.float()
        if self.score != "none":
            weight = weight * tokens.signals[f"{self.score}_attention"].mean(-1)[place]
        alone = math.ceil(budget * self.alpha)
        # The scale keeps products of small attention clear of the tolerance for ties.
        chosen = max_min(cosine_distance(x) * weight[:, None] * 1e6, alone)
        free = there.scatter(1, chosen, False)
        embeds, weights = tokens.embeds.clone(), tokens.weight.clone()
        kept = [place[there & ~free]]
        start = 0
        for length in segments_by_likeness(x.mean(1), self.cut, self.segments):
            part = slice(start, start + length)
            for frame, where, mean, size in self._merged(x[part], free[part], there[part], budget):
                standing = place[start + frame, where]
                embeds[standing] = mean.to(embeds.dtype)
                weights[standing] *= size.to(weights.dtype)
                kept.append(standing)
            start += length
        return replace(tokens, embeds=embeds, weight=weights).keep_prunable(torch.cat(kept))

    def _merged(
        self, x: Tensor, free: Tensor, there: Tensor, budget: int
    ) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """The merged tokens of a segment (T, N, C), frame by frame: the frame, their places in it
        (k,), their means (k, C) and how many tokens each stands for (k,)."""
        frames = len(x)
        rest = budget - math.ceil(budget * self.alpha)
        if rest == 0:
            return
        if frames == 1:  # nothing to follow: the whole frame is clustered, chosen tokens too
            mean, size, stay = x, torch.ones_like(x[..., 0]), there
        else:
            trees = token_trees(x, free, self.link, least=budget * frames)
            mean, size = tree_means(x, trees, by_children=self.compat)
            stay = free & (trees == torch.arange(trees.numel(), device=x.device).view_as(trees))
        share = rest * frames / max(1, int(stay.sum()))
        for frame in range(frames):
            where = stay[frame].nonzero()[:, 0]
            values, sizes = mean[frame, where], size[frame, where]
            count = math.ceil(len(where) * share)
            if 0 < count < len(where) and share < 1:
                found = dpc_knn(values[None], count, min(count, NEIGHBOURS))
                values = found.mean(values[None])[0]
                sizes = torch.zeros_like(sizes[:count]).index_add(0, found.label[0], sizes)
                where = _apart(where[found.centre[0]], free[frame], there[frame])
            yield frame, where, values, sizes


def _apart(centre: Tensor, free: Tensor, there: Tensor) -> Tensor:
    """Places (k,) for cluster means: their centres, other free ones where a centre is taken."""
    taken = ~free[centre]
    empty = free.clone()
    empty[centre] = False
    centre = centre.clone()
    centre[taken] = empty.nonzero()[: int(taken.sum()), 0]
    return centre
