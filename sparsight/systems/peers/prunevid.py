"""PruneVid: what stands still is merged over time, what is alike over space, and the question
chooses from what is left.

The film is cut into segments of like frames. In each, positions that hardly change become one
token; these, and the tokens of each frame at the other positions, are clustered. Inside the LLM the
attention of the question's words keeps the best of each such group, also in the cache of the layers
before. arXiv:2412.16117.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import knob, positions_after, system
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.llm.edits import Edit, check_layer
from sparsight.llm.layout import Layout
from sparsight.ops.cluster import dpc_knn
from sparsight.ops.frames import filled_forward, frame_table
from sparsight.ops.row_choice import columns_of, share_of
from sparsight.ops.segment import segments_of_labels
from sparsight.ops.select import top_per_group

NEIGHBOURS = 7
SMALL = 14  # groups of up to so many tokens are not clustered


@dataclass(frozen=True)
class KeepOfEachGroup:
    """Before `layer`, keep the share of each group that the words attend to most."""

    layer: int
    share: float
    heads: ClassVar = "max"
    evicts: ClassVar = True

    def rows(self, layout: Layout) -> Tensor:
        """The columns of each row's words (B, R), filled up with others."""
        return columns_of(layout.words)

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D); scores (B, R, L): the words' rows, the maximum over heads."""
        assert scores is not None
        real = torch.arange(scores.shape[1], device=scores.device) < layout.words.sum(1)[:, None]
        score = scores.masked_fill(~real[..., None], 0.0).amax(1)
        row, column = layout.prunable.nonzero(as_tuple=True)
        parts = torch.stack([row, layout.media[row, column], layout.group[row, column]], 1)
        _, part, sizes = parts.unique(dim=0, return_inverse=True, return_counts=True)
        chosen = top_per_group(score[row, column], part, share_of(sizes, self.share, "down"))
        keep = ~layout.prunable & ~layout.padding
        keep[row[chosen], column[chosen]] = True
        return Edit(keep)


@system(
    "prunevid",
    title="merge film tokens over time and space, then let the question choose in the LLM",
    paper="arXiv:2412.16117",
    group="peer",
    official=(
        "LLaVA-OneVision: 17.0 % of the tokens, 0.20x FLOPs, MVBench 58.0 -> 57.5",
        "PLLaVA: 16.2 % of the tokens, 0.23x FLOPs, MVBench 46.6 -> 47.6",
    ),
)
@dataclass(frozen=True)
class PruneVid:
    """Clusters the frames of a film and makes segments of the clusters. A position whose tokens
    have a mean pairwise cosine above `static` in a segment becomes one token, the mean over time.
    The static tokens of a segment, and each frame's other tokens, are clustered to the share
    `keep` if they are more than 14. A segment reads: static tokens, then those of each frame, in
    the order of the clusters' centres by density. Before `layer` of the LLM the share `inside`
    of each such group stays, by the highest attention from any word behind the last medium in any
    head; the others also leave the cache of the layers before (the first holds but does not show
    them). Pictures
    pass the first part unchanged; inside the LLM each of their views is a group."""

    keep: float = knob(0.5, "share of a group that clustering leaves", low=0, high=1)
    static: float = knob(0.8, "cosine above which a position stands still", low=-1, high=1)
    segments: float = knob(0.25, "clusters of frames, as a share of the frames", low=0, high=1)
    inside: float = knob(0.4, "share of each group that stays from `layer` on", low=0, high=1)
    layer: int = knob(11, "the first layer of the LLM that sees fewer tokens", low=1)
    positions: PositionPolicy = positions_after(help="positions of what enters the LLM")

    def needs(self) -> tuple[Need, ...]:
        return (Need("film"),)

    def edits(self, depth: int) -> Sequence[KeepOfEachGroup]:
        layer = check_layer("prunevid", self.layer, depth)
        return [KeepOfEachGroup(layer, self.inside)]

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        if "frame" not in tokens.views.roles or len(candidates) == 0:
            return tokens
        table = frame_table(tokens.view[candidates], tokens.box[candidates])
        place = candidates[filled_forward(table)]
        x, there = tokens.embeds[place].float(), table >= 0
        separators = (~tokens.prunable).nonzero()[:, 0]
        sources, places = [separators], [separators]
        changed = replace(tokens, embeds=tokens.embeds.clone(), weight=tokens.weight.clone())
        group = torch.full_like(tokens.view, -1)
        start = number = 0
        for length in self.lengths(x):
            frames = range(start, start + length)
            still = self.standing_still(x[start : start + length], there[start : start + length])
            # Static tokens stand at the beginning of the segment's first frame.
            values = [x[start : start + length, still].mean(0)]
            at = [place[start, still]]
            for frame in frames:
                moving = ~still & there[frame]
                values.append(x[frame, moving])
                at.append(place[frame, moving])
            taken = 0
            for part, (value, source) in enumerate(zip(values, at, strict=True)):
                stands_for = float(length) if part == 0 else 1.0
                source = self._clustered(changed, value, source, stands_for)
                frame = start + max(0, part - 1)
                free = place[frame, there[frame]]
                first = taken if part == 1 else 0  # the first frame begins with the static ones
                taken = len(source)
                sources.append(source)
                places.append(free[first : first + len(source)])
                group[source] = number
                number += 1
            start += length
        changed = replace(changed, group=group, positions=self.positions)
        return changed.placed(torch.cat(sources), torch.cat(places))

    def lengths(self, x: Tensor) -> list[int]:
        """The lengths of the segments of a film (T, P, C)."""
        clusters = max(1, int(len(x) * self.segments))
        found = dpc_knn(x.mean(1)[None], clusters, NEIGHBOURS)
        return segments_of_labels(found.label[0].tolist())

    def standing_still(self, x: Tensor, there: Tensor) -> Tensor:
        """(P,) bool, the positions that stand still in a segment (T, P, C)."""
        length = len(x)
        if length == 1:
            return torch.zeros_like(there[0])
        total = functional.normalize(x, dim=-1).sum(0).square().sum(-1)
        cosine = (total - length) / (length * (length - 1))
        return (cosine.clamp(max=1.0) > self.static) & there.all(0)

    def _clustered(
        self, tokens: VisualTokens, values: Tensor, source: Tensor, weight: float
    ) -> Tensor:
        """Cluster a group (n, C) whose tokens are at `source` (n,) and write what comes out over
        the embeddings and weights of the centres (k,), which are returned."""
        sizes = tokens.weight[source] * weight
        count = int(len(source) * self.keep)
        if len(source) > SMALL and count < len(source):
            found = dpc_knn(values[None], max(1, count), NEIGHBOURS)
            values = found.mean(values[None])[0]
            sizes = sizes.new_zeros(len(values)).index_add(0, found.label[0], sizes)
            source = source[found.centre[0]]
        tokens.embeds[source] = values.to(tokens.embeds.dtype)
        tokens.weight[source] = sizes
        return source
