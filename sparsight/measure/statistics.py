"""The few statistics that results are reported with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_Z = 1.959963984540054  # of a normal distribution, 95 % two-sided


def median(values: Sequence[float]) -> float:
    """The middle value; the mean of the two middle ones where their number is even."""
    return percentile(values, 50)


def p95(values: Sequence[float]) -> float:
    """The value that 95 % stay below."""
    return percentile(values, 95)


def percentile(values: Sequence[float], share: float) -> float:
    """The `share`-th percentile (0 to 100), linear between neighbours, as numpy's default."""
    assert values, "no values"
    assert 0 <= share <= 100, share
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a median from the order of the values alone: (low, high).

    It assumes nothing about their distribution: as many values lie below the true median as heads
    fall in that many throws. Five values or fewer cannot bound it, and give their whole range.
    """
    assert values, "no values"
    ordered, count = sorted(values), len(values)
    outside = 0  # values to leave out at each end
    tail = 0.5**count
    while tail <= 0.025:
        outside += 1
        tail += math.comb(count, outside) * 0.5**count
    rank = max(outside - 1, 0)
    return ordered[rank], ordered[-1 - rank]


def wilson(successes: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's formula: (low, high) in 0..1.

    It needs no resampling, holds at small counts and never leaves 0..1. No trials: (0, 1).
    """
    assert 0 <= successes <= total, (successes, total)
    if total == 0:
        return 0.0, 1.0
    share = successes / total
    square = _Z * _Z / total
    centre = share + square / 2
    spread = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total))
    low, high = (centre - spread) / (1 + square), (centre + spread) / (1 + square)
    return (0.0 if successes == 0 else low), (1.0 if successes == total else high)


def mcnemar(lost: int, won: int) -> float:
    """McNemar's exact two-sided test of two paired rates: the p-value.

    Args:
        lost: pairs that only the second of the two gets right.
        won: pairs that only the first gets right. Pairs on which both agree tell nothing.
    """
    assert lost >= 0, lost
    assert won >= 0, won
    count = lost + won
    term = tail = 1  # of the binomial coefficients of `count`
    for place in range(min(lost, won)):
        term = term * (count - place) // (place + 1)
        tail += term
    return min(1.0, 2 * tail / 2**count)


def interval_of_difference(
    first: Sequence[float], second: Sequence[float], *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean of `first` less that of `second`, paired: (low, high).

    Percentiles of `draws` resamplings of the pairs; the same seed gives the same interval. Where
    all pairs differ by the same amount it is that amount, however few they are. No pairs: (0, 0).
    """
    assert len(first) == len(second), (len(first), len(second))
    if not len(first):
        return 0.0, 0.0
    pairs = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    values, counts = np.unique(pairs, return_counts=True)
    # How often each value is drawn is all that counts: much less to draw where values are few.
    drawn = np.random.default_rng(seed).multinomial(len(pairs), counts / len(pairs), draws)
    low, high = np.percentile(drawn @ values / len(pairs), (2.5, 97.5))
    return float(low), float(high)


def summary(values: Sequence[float]) -> dict[str, float]:
    """What a benchmark writes down of repeated measurements."""
    return {
        "runs": len(values),
        "median": median(values),
        "p95": p95(values),
        "min": min(values),
        "max": max(values),
    }
