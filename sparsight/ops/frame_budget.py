"""One budget of visual tokens, divided over frames by how much each matters (QuoTA,
arXiv:2503.08689). T frames; everything is float64 on the CPU: T is small."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sharpened_shares(probability: Tensor, exponent: float = 2.0) -> Tensor:
    """Shares (T,) that sum to 1, in proportion to a power of (T,) probabilities; even if all are 0.

    The constant that the paper multiplies the probabilities by falls out.
    """
    power = probability.double() ** exponent
    total = power.sum()
    if total > 0:
        return power / total
    return torch.full_like(power, 1 / max(1, len(power)))


def capped_shares(share: Tensor, cap: float) -> Tensor:
    """Shares (T,) cut to `cap`; what is cut off goes to the others.

    As the official code does it: in one pass from the first frame to the last, each that is below
    the cap takes excess in proportion to its share of the sum after the first cut. Frames at the
    cap count in that sum, so part of the budget is lost.
    """
    shares = share.double().tolist()
    excess = sum(one - cap for one in shares if one > cap)
    if excess <= 0:
        return share.double()
    shares = [min(one, cap) for one in shares]
    total = sum(shares)
    for place, one in enumerate(shares):
        if one < cap:
            one += one / total * excess
            excess += max(0.0, one - cap)
            shares[place] = min(one, cap)
    return torch.tensor(shares, dtype=torch.float64)


def frame_budgets(share: Tensor, total: int, most: int | None = None) -> Tensor:
    """How many tokens each frame is given: (T,) long, rounded down, 0 for those left out.

    Args:
        share: (T,) shares of the budget.
        total: the budget.
        most: tokens that a frame has; None lets one take more than it has.

    Where no share reaches one token, the largest is given one.
    """
    share = share.double()
    if most is None:
        budgets = _floored(share * total)
    elif total >= most * len(share):  # room for all there is
        return torch.full_like(share, most, dtype=torch.long)
    else:
        cap = most / total
        share = capped_shares(share, cap)
        budgets = _floored(share * total)
    if len(budgets) and int(budgets.max()) == 0:
        budgets[share.argmax()] = 1
    return budgets


def _floored(x: Tensor) -> Tensor:
    """Rounded down; what is a whole number but for the last bits stays that number."""
    return (x + 1e-9).long()


def grid_within(count: int, shape: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) with at most `count` cells and the aspect of a grid of `shape`.

    For a square one: the largest square, and one more row where there is room.
    """
    height, width = shape
    rows = max(1, min(math.isqrt(count * height // width), count))
    columns = max(1, min(math.isqrt(count * width // height), count // rows))
    if (rows + 1) * columns <= count:
        return rows + 1, columns
    return rows, columns if rows * (columns + 1) > count else columns + 1
