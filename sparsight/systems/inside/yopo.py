"""YOPO: visual tokens stay, but the LLM computes less with them.

Treated as text, visual tokens are given far more computation than they need: they hardly look at
one another, many heads never look at them, and the last layers do not need them at all. This is
the variant without training: a visual token sees the text before it and itself, chosen heads leave
visual tokens alone, and from some layer on they are gone. arXiv:2410.06169. What needs training
(windows of neighbours, a smaller FFN for visual tokens) is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.llm.attention import Call
from sparsight.llm.edits import AttentionRule, Edit, LayerEdit
from sparsight.llm.layout import Layout
from sparsight.ops.head_votes import from_pairs
from sparsight.ops.visual_apart import text_attention, visual_apart


@lru_cache(maxsize=8)
def looking(skip: tuple[int, ...], layers: int, heads: int, device: torch.device) -> Tensor:
    """(layers, heads) bool on the device, the heads that are not skipped; copied there once."""
    return from_pairs(skip, layers, heads).to(device)


@dataclass(frozen=True)
class DropAll:
    """The edit before one layer: no visual token goes further."""

    layer: int

    def rows(self, layout: Layout) -> None:
        return None

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        return Edit(~layout.prunable & ~layout.padding)


@dataclass(frozen=True)
class Apart:
    """Attention in which visual tokens do not see one another, and blind heads see none."""

    layers: Sequence[int]
    depth: int
    alone: bool
    skip: tuple[int, ...]
    renormalise: bool

    def attend(self, layer: int, call: Call, keys: Layout, new: int) -> Tensor | None:
        heads = looking(self.skip, self.depth, call.query.shape[1], call.query.device)[layer]
        visual = keys.visual
        if new == len(keys):
            among = None if self.alone else call.run()[0]
            return visual_apart(
                call.query, call.key, call.value, visual, keys.padding, heads,
                call.scaling, self.renormalise, among,
            )  # fmt: skip
        if layer not in self.skip[::2]:
            return None
        column = torch.arange(len(keys), device=visual.device)
        own = column[-new:, None]
        allowed = (column <= own) & ~keys.padding[:, None] | (column == own)
        return text_attention(
            call.query, call.key, call.value, allowed, visual, heads, call.scaling,
            self.renormalise,
        )  # fmt: skip


@system(
    "yopo",
    title="less computation for visual tokens: not among themselves, not in the last layers",
    paper="arXiv:2410.06169",
    official=(
        "without training: Qwen2-VL-7B, InternVL2-4B, 8B and 26B",
        "LLaVA-1.5 fine-tuned with all four savings: 12 % and 25 % of the FLOPs, comparable scores",
    ),
)
@dataclass(frozen=True)
class YOPO:
    """In prefill, a visual token sees the text before it and itself, no other visual token (with
    `alone`). In the heads that `skip` names, text does not look at visual tokens and what visual
    tokens gather is zero. From the share `through` of the layers on, visual tokens take no part.
    Which heads to skip is found by calibration (`sparsight.ops.head_votes.looking_heads`) and kept
    with the plan. Positions stay."""

    through: float = knob(0.5, "share of the layers that visual tokens go through", low=0, high=1)
    alone: bool = knob(True, "whether visual tokens do not see one another")
    skip: tuple[int, ...] = knob(
        (), "heads that leave visual tokens alone: layer,head,layer,head,...", low=0
    )
    renormalise: bool = knob(
        True, "whether the attention of skipped heads is spread over what they see"
    )

    def check(self) -> None:
        if len(self.skip) % 2:
            raise UserError("yopo: skip must be pairs of a layer and a head")

    def edits(self, depth: int) -> Sequence[LayerEdit | AttentionRule]:
        if any(layer >= depth for layer in self.skip[::2]):
            raise UserError(f"yopo: skip names layers beyond {depth - 1}, the last of this LLM")
        last = max(1, round(self.through * depth))
        edits: list[LayerEdit | AttentionRule] = [DropAll(last)] if last < depth else []
        if self.alone or self.skip:
            layers = range(last) if self.alone else sorted({*self.skip[::2]} & {*range(last)})
            edits.append(Apart(layers, depth, self.alone, self.skip, self.renormalise))
        return edits
