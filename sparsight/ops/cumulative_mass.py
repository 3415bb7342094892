"""How few tokens hold how much of a mass, and at which layers it pays to drop the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from torch import Tensor


def minimal_top_count(mass: Tensor, share: float) -> Tensor:
    """The smallest number of top entries that hold at least `share` of each row's mass.

    mass (..., N), nowhere negative -> (...,) long, from 1 to N. Without its smallest member such a
    set holds less than the share. Entries without mass are never needed.
    """
    held = mass.float().sort(dim=-1, descending=True).values.cumsum(-1)
    enough = held[..., -1:] * share
    return (held < enough).sum(-1) + 1


def falling_cuts(
    flow: Sequence[float],
    effective: Sequence[float],
    most: int = 2,
    fall: float = 0.5,
    end: float = 0.01,
) -> tuple[list[int], list[float]]:
    """The layers before which tokens may go, and the share that stays from each on.

    Args:
        flow: for each layer, the share of the text's attention that goes to the tokens.
        effective: for each layer, the share of the tokens that holds nearly all of it.
        most: layers to choose, the last one below not counted.
        fall: a layer may be chosen once its flow is below this share of the largest before it...
        end: ... and where the flow stays below this, all tokens go; 0 for never.

    A chosen layer needs fewer tokens than every layer before it, so the shares fall. Of all
    choices the one that saves most tokens, summed over the layers, is taken. The first layer is
    never chosen. No layer at all may fit: both lists are then empty.
    """
    depth = last = len(flow)
    while last > 1 and flow[last - 1] < end:
        last -= 1
    fit = [
        layer
        for layer in range(1, last)
        if flow[layer] < fall * max(flow[:layer]) and effective[layer] < min(effective[:layer])
    ]

    def saved(chosen: tuple[int, ...]) -> float:
        stops = (*chosen[1:], last)
        return sum(
            (1 - effective[layer]) * (stop - layer)
            for layer, stop in zip(chosen, stops, strict=bool(chosen))
        )

    counts = range(min(most, len(fit)) + 1)
    best = max((chosen for count in counts for chosen in combinations(fit, count)), key=saved)
    layers, shares = list(best), [float(effective[layer]) for layer in best]
    return (layers, shares) if last == depth else ([*layers, last], [*shares, 0.0])
