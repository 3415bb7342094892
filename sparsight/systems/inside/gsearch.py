"""G-Search and P-Sigmoid: how many visual tokens take part in each layer of the LLM.

Beyond the first layer, the visual tokens' ranking by attention is nearly the same in all layers:
what one layer can do without, the later ones can too. So one number a layer describes a whole
reduction. This system carries out such a schedule: one that a search has found, layer by layer, or
a sigmoid over the depth. arXiv:2412.00556; no official code was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.core.registry import knob, system
from sparsight.llm.dropping import KeepAttended
from sparsight.llm.layout import Layout
from sparsight.ops.row_choice import share_of
from sparsight.ops.schedule import in_blocks, sigmoid_of_mean


def rounded_share(layout: Layout, share: float) -> Tensor:
    """(B,) that share of the visual tokens each row started with, to the nearest; one at least."""
    return share_of(layout.prunable_at_start.sum(1), share, "nearest").clamp_min(1)


@system(
    "gsearch",
    title="a number of visual tokens for each layer of the LLM, searched or a sigmoid",
    paper="arXiv:2412.00556",
    official=("LLaVA and InternVL2 models: more than 2x faster without loss",),
)
@dataclass(frozen=True)
class GSearch:
    """Before each layer whose share is below the one before it, keeps that share of the prompt's
    original visual tokens: those with the most attention in the layer before, from the text
    behind the last medium (mean over heads and words) or from the last token. `schedule` holds a
    share for each layer, as a search has found it; without it the shares follow a sigmoid over
    the depth whose centre is chosen so that their mean is `keep`. Kept tokens stay at their
    positions."""

    keep: float = knob(0.5, "mean share of the visual tokens over all layers", low=0, high=1)
    schedule: tuple[float, ...] = knob(
        (), "a share for each layer, never rising, in place of keep", low=0, high=1
    )
    steepness: float = knob(0.5, "how fast the sigmoid falls, per layer", low=0.001)
    floor: float = knob(0.05, "share that the sigmoid falls to", low=0, high=1)
    every: int = knob(1, "layers between two cuts, for fewer of them", low=1)
    query: Literal["text", "last"] = knob(
        "text", "whose attention ranks the tokens", choices=("text", "last")
    )

    def shares(self, depth: int) -> list[float]:
        """The share of the visual tokens that takes part in each of `depth` layers."""
        if self.schedule:
            self._check_schedule(depth)
            return in_blocks(self.schedule, self.every)
        try:
            shares = sigmoid_of_mean(depth, self.keep, self.steepness, self.floor)
        except ValueError as error:
            raise UserError(
                f"gsearch: keep={self.keep:g} with floor={self.floor:g}: {error}"
            ) from None
        return in_blocks(shares, self.every)

    def _check_schedule(self, depth: int) -> None:
        if len(self.schedule) != depth:
            raise UserError(
                f"gsearch: the schedule has {len(self.schedule)} shares, but the LLM {depth} layers"
            )
        if self.schedule[0] != 1:
            raise UserError("gsearch: the schedule must begin with 1: the first layer sees all")
        if any(low > high for high, low in zip(self.schedule, self.schedule[1:], strict=False)):
            raise UserError("gsearch: the schedule must not rise: what is dropped stays away")

    def edits(self, depth: int) -> Sequence[KeepAttended]:
        shares = self.shares(depth)
        return [
            KeepAttended(layer, partial(rounded_share, share=shares[layer]), self.query)
            for layer in range(1, depth)
            if shares[layer] < shares[layer - 1]
        ]
