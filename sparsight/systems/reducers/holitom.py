"""HoliTom: holistic token merging for fast video LLMs.

Before the LLM, a film is cut into the segments that save most when positions that stand still are
averaged over time; what stood still is then merged by density peaks, what moves is kept by
attention. Inside the LLM, half of the rest is merged into the other half. arXiv:2505.21334.

Shapes: T frames, N positions of a frame, M moving ones, B batch, L tokens of the prompt.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.core.registry import Budget, count_of, knob, positions_after, system, tower_score
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.llm.edits import Edit, check_layer
from sparsight.llm.layout import Layout
from sparsight.ops.centres import merge_by_halves, merge_into_centres
from sparsight.ops.cluster import dpc_knn
from sparsight.ops.group_rows import group_rows
from sparsight.ops.select import top
from sparsight.ops.still import still_positions, still_segments


@system(
    "holitom",
    title="average what stands still, keep what moves, merge inside the LLM",
    paper="arXiv:2505.21334",
    official=(
        "LLaVA-OneVision-7B: 6.9 % of the FLOPs, 99.1 % of the performance, first token 2.28x",
        "published settings: 0.10 (tau 0.65), 0.15, 0.20 or 0.25 of the tokens; layer 18 of a 7B",
    ),
)
@dataclass(frozen=True)
class HoliTom:
    """Keeps about `keep` of a film's tokens before the LLM, and merges `inner` of those away before
    `layer`. A position is still in a segment if each frame of it resembles the next there
    (cosine above `tau`). Ties of densities go to the lower index, where the released code adds
    noise. Views that are not frames of a film are reduced one by one, as moving. Separators stay.
    inner=0 leaves the LLM as it is; keep=1.0 with tau=1.0 keeps everything before it."""

    keep: Budget = knob(0.1, "visual tokens that stay before the LLM, about", per="medium")
    tau: float = knob(0.8, "cosine above which a position stands still", low=-1, high=1)
    contextual: float = knob(0.0, "share of a frame's tokens that are merged", low=0, high=1)
    beta: float = knob(0.6, "share of a centre in what is merged into it", low=0, high=1)
    plain_mean: bool = knob(False, "merge by the plain mean instead")
    neighbours: int = knob(7, "neighbours that make up a density", low=1)
    longest: int = knob(1024, "frames of a segment, at most", low=1)
    order: Literal["segment", "place"] = knob(
        "segment", "what stood still first, or all in its place", choices=("segment", "place")
    )
    inner: float = knob(0.5, "share merged away inside the LLM", low=0, high=1)
    layer: int = knob(3, "the first layer that sees fewer tokens", low=1)
    score: Literal["received", "cls"] = tower_score("received")
    positions: PositionPolicy = positions_after(help="positions before the LLM")

    def needs(self) -> tuple[Need, ...]:
        return (Need(f"{self.score}_attention"),)

    def edits(self, depth: int) -> Sequence[MergeInside]:
        if self.inner == 0:
            return []
        layer = check_layer("holitom", self.layer, depth)
        return [MergeInside(layer, self.inner)]

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        candidates = tokens.prunable.nonzero()[:, 0]
        if len(candidates) == 0:
            return tokens
        share = self.keep
        if not isinstance(share, float):
            share = count_of(share, len(candidates)) / len(candidates)
        tokens = replace(
            tokens,
            score=tokens.signals[f"{self.score}_attention"].mean(-1),
            embeds=tokens.embeds.clone(),
            weight=tokens.weight.clone(),
        )
        tables = group_rows(tokens.view, candidates)
        is_film = len(tables) == 1 and {*tokens.views.roles} == {"frame"}
        kept: list[Tensor] = []
        for table in tables:
            reduced = self._film if is_film else self._moving
            kept += reduced(tokens, table, share)
        source = torch.cat([rows.flatten() for rows in kept])
        places = source.sort().values if is_film and self.order == "segment" else source
        separators = (~tokens.prunable).nonzero()[:, 0]
        placed = tokens.placed(torch.cat([source, separators]), torch.cat([places, separators]))
        return replace(placed, positions=self.positions)

    def _film(self, tokens: VisualTokens, table: Tensor, share: float) -> list[Tensor]:
        """Reduce a film whose tokens are `table` (T, N): what stays, segment by segment, what
        stood still before what moves. Merged values are written over those of what stays."""
        x = tokens.embeds[table].float()
        alike = functional.cosine_similarity(x[1:], x[:-1], dim=-1) > self.tau
        alike = (alike & (self.tau < 1)).cpu()
        segments = still_segments(alike, self.longest)
        ratio = min(1.0, share / (1 - segments.saved / table.numel()))
        still: list[Tensor] = []
        moving: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
        for first, last in segments.borders:
            # Chosen on the CPU, where the segments are: a mask on the device would be waited for.
            mask = still_positions(alike, (first, last))
            stays, moves = (at.nonzero()[:, 0].to(table.device) for at in (mask, ~mask))
            still.append(self._still(tokens, table[first : last + 1, stays], ratio))
            rows = table[first : last + 1, moves]
            moving[rows.shape[1]] += enumerate(rows, first)
        frames: dict[int, Tensor] = {}
        for found in moving.values():  # frames with as many moving positions go together
            left = self._moving(tokens, torch.stack([row for _, row in found]), ratio)
            frames.update(zip([frame for frame, _ in found], left, strict=True))
        kept = []
        for (first, last), tokens_still in zip(segments.borders, still, strict=True):
            kept += [tokens_still, *(frames[frame] for frame in range(first, last + 1))]
        return kept

    def _still(self, tokens: VisualTokens, rows: Tensor, ratio: float) -> Tensor:
        """Average (L, S) tokens of one segment over time, then merge them: those that stay."""
        first = rows[0]
        count = round(len(first) * ratio)
        if count == 0:
            return first[:0]
        tokens.embeds[first] = tokens.embeds[rows].float().mean(0).to(tokens.embeds.dtype)
        tokens.weight[first] = tokens.weight[rows].sum(0)
        return self._centres(tokens, first[None], count)[0]

    def _moving(self, tokens: VisualTokens, rows: Tensor, ratio: float) -> Tensor:
        """Of frames whose moving tokens are `rows` (T, M), keep the most attended and merge some
        of the others: (T, k)."""
        assert tokens.score is not None
        count = math.ceil(rows.shape[1] * ratio)
        merged = count - round(count * (1 - self.contextual))
        order = tokens.score[rows].argsort(dim=1, descending=True, stable=True)
        best = rows.gather(1, order[:, : count - merged].sort(dim=1).values)
        if merged == 0:
            return best
        rest = rows.gather(1, order[:, count - merged :].sort(dim=1).values)
        return torch.cat([best, self._centres(tokens, rest, merged)], 1)

    def _centres(self, tokens: VisualTokens, rows: Tensor, count: int) -> Tensor:
        """Merge tokens `rows` (T, M) into `count` of each row, written over the centres: (T, c)."""
        if count == rows.shape[1]:
            return rows
        x = tokens.embeds[rows]
        found = dpc_knn(x, count, min(self.neighbours, count))
        centre, order = found.centre.sort(dim=1)
        label = order.argsort(dim=1).gather(1, found.label)
        own = None if self.plain_mean else self.beta
        target = rows.gather(1, centre)
        weight = torch.zeros_like(target, dtype=tokens.weight.dtype)
        tokens.weight[target] = weight.scatter_add(1, label, tokens.weight[rows])
        tokens.embeds[target] = merge_into_centres(x, centre, label, own)
        return target


@dataclass(frozen=True)
class MergeInside:
    """The edit before one layer: the visual tokens the last token attends to least are merged, one
    by one in their order, each into the kept one most like it, by halves."""

    layer: int
    share: float
    heads: ClassVar = "mean"

    def rows(self, layout: Layout) -> str:
        return "last"

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D); scores (B, 1, L): the last row, averaged over heads."""
        assert scores is not None
        score = scores.reshape(len(hidden), -1)
        keep = ~layout.padding & ~layout.prunable
        merged = hidden.clone()
        for row in range(len(hidden)):
            visual = layout.prunable[row].nonzero()[:, 0]
            if len(visual) == 0:
                continue  # a prompt of text alone
            count = max(1, round(len(visual) * (1 - self.share)))
            stays = torch.zeros_like(visual, dtype=torch.bool)
            stays[top(score[row, visual], count)] = True
            kept, gone = visual[stays], visual[~stays]
            keep[row, kept] = True
            merged[row, kept] = merge_by_halves(hidden[row, kept], hidden[row, gone])
        return Edit(keep=keep, hidden=merged)
