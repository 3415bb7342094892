"""AdaToken-3D: visual tokens go where the model at hand no longer draws on them.

Most spatial tokens of a 3-D LMM contribute next to nothing to what the text takes from them. How
many do differs from sample to sample, and how deep they are needed differs from model to model: so
the layers are calibrated on the model, and the number is decided for each prompt. arXiv:2505.12782.

RECONSTRUCTED from the abstract (more than 60 % of the spatial tokens contribute less than 5 %;
found by mining attention): neither the paper's equations nor any code were at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.llm.edits import Edit, check_layers
from sparsight.llm.layout import Layout
from sparsight.ops.cumulative_mass import minimal_top_count
from sparsight.ops.row_choice import best_in_rows, columns_of, mean_of_first, share_of


@dataclass(frozen=True)
class KeepMass:
    """The edit before one layer: the smallest top set that holds 1 - eps of the text's attention.

    At least `floor` and at most `share` of the visual tokens that the prompt began with stay.
    """

    layer: int
    eps: float
    floor: float
    share: float
    query: Literal["text", "last"]
    heads: Literal["mean", "max"]

    def rows(self, layout: Layout) -> Tensor | str:
        """Which attention rows to read: the last, or (B, R) columns of the text at the end."""
        return "last" if self.query == "last" else columns_of(layout.words)

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        """hidden (B, L, D); scores (B, R, L), heads put together."""
        assert scores is not None
        count = layout.words.sum(1)
        score = scores[:, 0] if self.query == "last" else mean_of_first(scores, count)
        quota = self.quota(score, layout)
        best = best_in_rows(score, layout.prunable, quota)
        return Edit(~layout.prunable & ~layout.padding | best)

    def quota(self, score: Tensor, layout: Layout) -> Tensor:
        """(B,) tokens that stay, from the attention (B, L) that each receives."""
        # Text and separators take no part: the first tokens of a prompt draw attention as such.
        needed = layout.prunable.sum(1)
        if self.eps > 0:
            needed = minimal_top_count(score * layout.prunable, 1 - self.eps)
        start = layout.prunable_at_start.sum(1)
        low, high = (share_of(start, share, "nearest") for share in (self.floor, self.share))
        return torch.minimum(torch.maximum(needed, low), high)


@system(
    "adatoken-3d",
    title="drop visual tokens inside the LLM, as many as this prompt's attention can do without",
    paper="arXiv:2505.12782",
    official=(
        "LLaVA-3D-7B: 21 % faster and 63 % fewer FLOPs at equal accuracy",
        "over 60 % of the spatial tokens contribute less than 5 % to the prediction",
    ),
)
@dataclass(frozen=True)
class AdaToken3D:
    """Before each of `layers`, keeps the smallest set of visual tokens that holds 1 - `eps` of the
    attention which the text behind the last medium pays to visual tokens in the layer before: at
    least `floor` and at most that layer's share in `ratios` of the prompt's original tokens. A
    ratio of 0 ends them there. Kept tokens stay at their positions, and 3-D position embeddings
    that were added to them stay in them; any visual tokens will do. Layers and ratios follow from a
    calibration (`sparsight.vlm.visual_flow.measure`, then
    `sparsight.ops.cumulative_mass.falling_cuts`) and are kept with the plan; without one the cuts
    are at a third and at two thirds of the depth and eps alone decides. A reconstruction from the
    abstract, not the authors' formula; weighting by values is left out."""

    eps: float = knob(0.05, "share of the attention that may go; 0 for none", low=0, high=1)
    layers: tuple[int, ...] = knob((), "the first layers that see fewer tokens", low=1)
    ratios: tuple[float, ...] = knob(
        (), "largest share that stays from each layer on, never rising", low=0, high=1
    )
    floor: float = knob(0.1, "smallest share that stays, below the ratios", low=0, high=1)
    query: Literal["text", "last"] = knob(
        "text", "whose attention counts", choices=("text", "last")
    )
    heads: Literal["mean", "max"] = knob(
        "mean", "how heads are put together; max minds the specialised", choices=("mean", "max")
    )

    def check(self) -> None:
        if self.ratios and len(self.ratios) != len(self.layers):
            raise UserError(
                f"adatoken-3d: {len(self.ratios)} ratios for {len(self.layers)} layers: give one "
                "for each of layers"
            )
        if any(low > high for high, low in zip(self.ratios, self.ratios[1:], strict=False)):
            raise UserError("adatoken-3d: ratios must not rise: what is dropped stays away")

    def edits(self, depth: int) -> Sequence[KeepMass]:
        layers = self.layers or tuple(sorted({max(1, round(depth * k / 3)) for k in (1, 2)}))
        ratios = self.ratios or (1.0,) * len(layers)
        return [
            KeepMass(layer, self.eps, self.floor, ratio, self.query, self.heads)
            for layer, ratio in zip(check_layers("adatoken-3d", layers, depth), ratios, strict=True)
            if self.eps > 0 or ratio < 1
        ]
