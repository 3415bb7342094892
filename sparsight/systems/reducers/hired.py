"""HiRED: attention-guided token dropping for efficient inference of high-resolution VLMs.

A fixed budget is split between the whole view of a picture and its tiles. Each tile's part follows
from where on the whole view the CLS attention of the tower's first block falls; within a view the
patches stay that CLS attends to most in the block of the features. arXiv:2408.10945.

Shapes: N visual tokens, V views, n tokens of the whole view, t tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sparsight.core.registry import Budget, count_of, knob, positions_after, system, tower_score
from sparsight.core.slots import Need, Request
from sparsight.core.tokens import PositionPolicy, VisualTokens
from sparsight.ops.select import top, top_per_group
from sparsight.ops.view_grids import deal


@system(
    "hired",
    title="split a budget over tiles by early CLS attention, spend it by late",
    paper="arXiv:2408.10945",
    official=(
        "LLaVA-NeXT-7B, keep 0.2, Tesla P40: 4.7x the tokens a second, first token 15 s earlier",
        "published setting: keep 0.2, alpha 0.5",
    ),
)
@dataclass(frozen=True)
class HiRED:
    """Keeps at most `keep` tokens of a picture: `alpha` of them on the whole view, the others on
    its tiles, in proportion to how many of the top 1 - alpha of the whole view's patches by CLS
    attention in the first block lie on each. Shares are rounded down, so a few tokens of the budget
    may be left. Patches that are cut off with the padding take no part, and separator tokens
    stay, both unlike the released code. Views without tiles, such as frames, share the budget
    evenly. strips=True counts marked patches as the released code does: by stripes of rows, not by
    tiles. score="received" takes the mean attention a patch receives in place of that of CLS, for
    towers without one."""

    keep: Budget = knob(0.2, "visual tokens that stay, at most", per="medium")
    alpha: float = knob(0.5, "share of the budget for the whole view", low=0, high=1)
    strips: bool = knob(False, "count by stripes of the whole view, as released")
    score: Literal["cls", "received"] = tower_score()
    positions: PositionPolicy = positions_after()

    def needs(self) -> tuple[Need, ...]:
        return (Need(f"{self.score}_attention", 0), Need(f"{self.score}_attention"))

    def reduce(self, tokens: VisualTokens, request: Request) -> VisualTokens:
        early, late = (tokens.signals[need.key].sum(-1) for need in self.needs())
        candidates = tokens.prunable.nonzero()[:, 0]
        count = count_of(self.keep, len(candidates))
        if count == len(candidates):
            return tokens
        view = tokens.view[candidates]
        sizes = view.bincount(minlength=len(tokens.views)).tolist()
        roles = tokens.views.roles
        if "tile" in roles and roles.count("thumbnail") == 1:
            whole = roles.index("thumbnail")
            members = candidates[view == whole]
            quota = self._budgets(tokens, members, early[members], count, sizes)
        else:
            quota = deal(count, sizes)
        chosen = top_per_group(late[candidates], view, torch.tensor(quota, device=view.device))
        kept = replace(tokens, score=late).keep_prunable(candidates[chosen])
        return replace(kept, positions=self.positions)

    def _budgets(
        self, tokens: VisualTokens, members: Tensor, early: Tensor, count: int, sizes: list[int]
    ) -> list[int]:
        """How many tokens each view keeps: `members` (n,) are those of the whole view, `early` (n,)
        their scores, `sizes` what each view has."""
        roles = tokens.views.roles
        tiles = [place for place, role in enumerate(roles) if role == "tile"]
        whole = roles.index("thumbnail")
        marked = top(early, int(len(members) * (1 - self.alpha)))
        if self.strips:
            lies_on = (marked * len(tiles) // len(members)).bincount(minlength=len(tiles))
        else:
            area = tokens.views.boxes[tiles].to(tokens.box)[:, None]
            box = tokens.box[members[marked]]
            centre = (box[:, :2] + box[:, 2:]) / 2
            lies_on = ((centre >= area[..., :2]) & (centre < area[..., 2:])).all(-1).sum(1)
        weight = lies_on.tolist()
        if sum(weight) == 0:
            weight = [1] * len(tiles)
        quota = [0] * len(roles)
        quota[whole] = min(int(count * self.alpha), sizes[whole])
        left = min(count - quota[whole], sum(sizes[tile] for tile in tiles))
        for tile, share in zip(tiles, weight, strict=True):
            quota[tile] = min(share * left // sum(weight), sizes[tile])
        return quota
