"""PyramidDrop: fewer visual tokens stage by stage, as they become redundant with depth.

The LLM is cut into stages. Before each stage but the first, the attention of the last instruction
token to the visual tokens, as the stage's first layer would compute it, decides which of them
enter the stage. arXiv:2410.17247.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from sparsight.core.registry import knob, positions_after, system
from sparsight.llm.dropping import KeepAttended
from sparsight.llm.edits import check_layers
from sparsight.llm.layout import Layout
from sparsight.ops.row_choice import share_of


def share_of_start(layout: Layout, share: float) -> Tensor:
    """(B,) that share of the visual tokens each row started with, rounded down; one at least."""
    return share_of(layout.prunable_at_start.sum(1), share, "down").clamp_min(1)


@system(
    "pyramiddrop",
    title="drop visual tokens in stages over the LLM's depth",
    paper="arXiv:2410.17247",
    group="peer",
    official=(
        "LLaVA-NeXT-7B, stages at layers 8, 16 and 24, keep 0.5: inference FLOPs down by 55 %, "
        "training time down by 40 %, comparable scores",
    ),
)
@dataclass(frozen=True)
class PyramidDrop:
    """Cuts the LLM into `stages` of equal depth and keeps, from stage s on, keep ** s of the
    visual tokens of the prompt: those the last prompt token attends to most in the layer to come
    (mean over heads). Text and kept tokens are renumbered without gaps at every stage."""

    keep: float = knob(0.5, "share of a stage's visual tokens that enters the next", low=0, high=1)
    stages: int = knob(4, "stages; all tokens take part in the first", low=2)
    layers: tuple[int, ...] = knob(
        (), "the first layer of each later stage, where stages are not of equal depth", low=1
    )
    positions: Literal["renumber", "keep"] = positions_after()

    def edits(self, depth: int) -> Sequence[KeepAttended]:
        equal = tuple(depth * stage // self.stages for stage in range(1, self.stages))
        layers = check_layers("pyramiddrop", self.layers or equal, depth)
        return [
            KeepAttended(
                layer,
                partial(share_of_start, share=self.keep**stage),
                ahead=True,
                positions=self.positions,
            )
            for stage, layer in enumerate(layers, 1)
        ]
