"""ToMe: token merging inside the vision tower. Your ViT but faster.

In every block, between attention and MLP, even tokens propose to their most similar odd token
(cosine of the keys' mean over heads) and the r best proposals merge by size-weighted mean.
arXiv:2210.09461.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsight.core.registry import knob, system
from sparsight.core.slots import Need
from sparsight.modules.towers import TowerMerge
from sparsight.ops.merge import Matching, bipartite_matching, merge_schedule


@system(
    "tome",
    title="merge similar tokens inside the vision tower, block by block",
    paper="arXiv:2210.09461",
    group="peer",
    official=("ViT-L at 512 px and ViT-H at 518 px: 2x the throughput for 0.2 to 0.3 % accuracy",),
)
@dataclass(frozen=True)
class ToMe:
    """Removes `r` tokens in every block of the tower, at most half of what is there; CLS is never
    merged. Where the blocks end, each patch is given the merged token it went into, so that
    connectors that need the grid work: the tower is cheaper, the LLM sees as many tokens as
    before. Combine it with a reducer to shorten both."""

    r: int = knob(8, "tokens removed in each block", low=0)
    inflection: float = knob(
        0.0, "-1 removes most in the first blocks, 1 in the last, 0 the same in all", low=-1, high=1
    )
    weighted: bool = knob(True, "merged tokens attract attention by their size (log size)")

    def needs(self) -> tuple[Need, ...]:
        return (Need("tower_blocks"),)

    def merging(self, depth: int, tokens: int) -> TowerMerge:
        removed = merge_schedule(depth, self.r, self.inflection)
        protected = 0

        def match(metric: Tensor, block: int) -> Matching | None:
            nonlocal protected
            if block == 0:
                protected = metric.shape[1] - tokens  # 1 where the tower has a CLS token
            return bipartite_matching(metric, removed[block], protected)

        return TowerMerge(match, removed, self.weighted)
