"""SparseVLM: visual tokens ranked by the words of the question, and the best losers recycled.

Text tokens that look at the picture more than the average ("raters", chosen once on the LLM's
input) rank the visual tokens in a few layers. Of those that lose, the better ones are clustered
and come back as cluster means. arXiv:2410.04417; the released code (its first version) keeps fixed
counts where the paper derives them from the rank of the attention matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import Budget, count_of, knob, positions_after, system
from sparsight.llm.edits import Edit, check_layers
from sparsight.llm.layout import Layout
from sparsight.ops.cluster import dpc_knn
from sparsight.ops.row_choice import columns_of, mean_of_first, places_before
from sparsight.ops.select import top

#: Published stage counts of 576 tokens, by their average over the layers; what lies between is
#: interpolated.
STAGES = {
    0: (0, 0, 0), 64: (66, 30, 17), 96: (238, 48, 26), 128: (303, 110, 36), 192: (300, 200, 110),
    576: (576, 576, 576),
}  # fmt: skip


@dataclass(frozen=True)
class RankAndRecycle:
    """The edit before one layer: the raters' best stay, some others are merged, the rest goes."""

    layer: int
    stage: int
    keep: Budget
    count: int | None
    recycle: float
    positions: Literal["renumber", "keep"]
    heads: ClassVar = "mean"

    def mark(self, embeds: Tensor, layout: Layout) -> Tensor:
        """(B, L) bool, the raters, from the LLM's input (B, L, D)."""
        marks = torch.zeros_like(layout.visual)
        for row in layout.visual.any(1).nonzero()[:, 0].tolist():
            words = layout.words[row].nonzero()[:, 0]
            share = rater_share(embeds[row, layout.visual[row]], embeds[row, words])
            above = share > share.mean()
            marks[row, words[above] if above.any() else words] = True
        return marks

    def rows(self, layout: Layout) -> Tensor | str:
        """The columns of each row's raters (B, R), filled up with others."""
        return "last" if layout.marks is None else columns_of(layout.marks)

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D); scores (B, R, L): the raters' rows, averaged over heads."""
        assert scores is not None
        assert layout.marks is not None
        score = mean_of_first(scores, layout.marks.sum(1))
        keep, states = ~layout.padding, hidden.clone()
        source = torch.arange(len(layout), device=hidden.device).repeat(layout.batch, 1)
        starts = layout.prunable_at_start
        for row, medium in starts.nonzero().tolist():
            columns = (layout.prunable[row] & (layout.media[row] == medium)).nonzero()[:, 0]
            count = self._count(start := int(starts[row, medium]))
            if count >= start:
                continue
            # One token at least goes, so that one at least is recycled.
            kept = top(score[row, columns], min(count, len(columns) - 1))
            centre, merged = self._recycled(hidden[row, columns], score[row, columns], kept)
            to = places_before(kept, len(columns), len(merged))
            keep[row, columns] = False
            keep[row, columns[to]] = True
            states[row, columns[to]] = torch.cat([hidden[row, columns[kept]], merged])
            source[row, columns[to]] = columns[torch.cat([kept, centre])]
        return Edit(keep, states, self.positions, source=source)

    def _count(self, start: int) -> int:
        """Tokens of a medium of `start` tokens that stay at this stage."""
        if self.count is not None:
            return self.count
        share = count_of(self.keep, start) / start if isinstance(self.keep, int) else self.keep
        return round(start * stage_share(share, self.stage))

    def _recycled(self, x: Tensor, score: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Cluster the better ones of the tokens that are not kept.

        x (n, D), score (n,), kept (k,) -> the centres (c,) long among the n, their means (c, D).
        """
        lost = torch.ones_like(score, dtype=torch.bool)
        lost[kept] = False
        places = lost.nonzero()[:, 0]
        order = score[places].argsort(descending=True, stable=True)
        better = places[order[: int(len(places) * self.recycle) + 1]]
        count = len(better) // 10 + 1
        found = dpc_knn(x[better][None], count, count)
        return better[found.centre[0]], found.mean(x[better][None])[0]


def rater_share(visual: Tensor, text: Tensor) -> Tensor:
    """How much of the visual tokens' attention each text token gets, on embeddings.

    visual (n, D), text (m, D) -> (m,): softmax over the text tokens, mean over the visual ones.
    """
    return (visual.float() @ text.float().T).softmax(-1).mean(0)


def stage_share(keep: float, stage: int) -> float:
    """The share that stays at a stage for an average share `keep`, from the published counts."""
    whole = max(STAGES)
    averages = sorted(STAGES)
    above = next((i for i, average in enumerate(averages) if average >= keep * whole), -1)
    low, high = averages[above - 1], averages[above]
    part = (keep * whole - low) / (high - low)
    return (STAGES[low][stage] * (1 - part) + STAGES[high][stage] * part) / whole


@system(
    "sparsevlm",
    title="drop visual tokens inside the LLM by the question's words, recycle some",
    paper="arXiv:2410.04417",
    group="peer",
    official=(
        "settings of LLaVA-1.5, tokens after layers 2, 6 and 15: 300, 200, 110 for 192 of 576 on "
        "average; 303, 110, 36 for 128; 238, 48, 26 for 96; 66, 30, 17 for 64",
    ),
)
@dataclass(frozen=True)
class SparseVLM:
    """Ranks the visual tokens of each medium by the attention (mean over heads) that the raters
    pay them in the layer before each of `layers`, and keeps the best. Of the others, the best
    `recycle` are clustered, one cluster for ten tokens, and their means stand behind the kept
    ones. All tokens are renumbered without gaps."""

    keep: Budget = knob(0.3333, "visual tokens that stay, averaged over the layers", per="medium")
    layers: tuple[int, ...] = knob((3, 7, 16), "the first layers that see fewer tokens", low=1)
    counts: tuple[int, ...] = knob((), "tokens kept before each of `layers`, for keep", low=0)
    recycle: float = knob(0.3, "share of the dropped tokens that are clustered", low=0, high=1)
    positions: Literal["renumber", "keep"] = positions_after()

    def check(self) -> None:
        stages = len(self.counts) or len(STAGES[0])
        if len(self.layers) != stages:
            raise UserError(
                f"sparsevlm: {len(self.layers)} layers for {stages} stages: give counts with one "
                "number for each of the layers"
            )

    def edits(self, depth: int) -> Sequence[RankAndRecycle]:
        layers = check_layers("sparsevlm", self.layers, depth)
        counts = self.counts or (None,) * len(layers)
        return [
            RankAndRecycle(layer, stage, self.keep, count, self.recycle, self.positions)
            for stage, (layer, count) in enumerate(zip(layers, counts, strict=True))
        ]
