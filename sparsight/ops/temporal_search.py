"""Search in time by pictures tiled of frames: where to look next, and what a look teaches.

A film is a line of n moments. Each round shows g of them in one grid; how confident a detector
is of each cell raises the score of its moment and of those around it, and a smooth curve through
the scores says where to look next. Everything is float64 and on the CPU: n is small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsight.ops.spline import smoothing_spline

FLOOR = 1e-6  # the score of a moment not yet seen


@dataclass(frozen=True)
class Search:
    """What is known of (n,) moments: the score, the probability to look there, whether unseen."""

    score: Tensor
    chance: Tensor
    unseen: Tensor

    @classmethod
    def over(cls, moments: int, chance: float) -> Search:
        """The beginning: nothing is seen."""
        line = torch.ones(moments, dtype=torch.float64)
        return cls(line * FLOOR, line * chance, line.bool())


def first_look(moments: int, count: int) -> Tensor:
    """Every (moments // count)-th moment from the first, `count` of them; at most all."""
    count = min(count, moments)
    return torch.arange(count) * (moments // count)


def look_probability(search: Search, count: int, percentile: float = 75) -> Tensor:
    """The probability of each moment (n,) to be among the next `count`, which sums to 1.

    Those below the percentile are left out. Where too few moments are left to draw from, all may
    be drawn, seen ones too.
    """
    raised = search.chance + count / len(search.chance)
    masked = raised * search.unseen
    masked = masked * (masked >= masked.quantile(percentile / 100))
    chosen = masked if int((masked > 0).sum()) >= count else raised
    return chosen / chosen.sum()


def next_look(
    search: Search, count: int, generator: torch.Generator, percentile: float = 75
) -> Tensor:
    """Draw `count` moments without replacement, in the order of the draw."""
    count = min(count, len(search.score))
    chance = look_probability(search, count, percentile)
    return torch.multinomial(chance, count, generator=generator)


def learn(
    search: Search,
    looked: Tensor,
    confidence: Tensor,
    *,
    window: int = 5,
    percentile: float = 75,
    smooth: float = 0.5,
) -> Search:
    """What is known after a look at (g,) moments `looked`, with a (g,) confidence of each.

    The best of the look raise the scores within `window` moments, the less the farther off.
    """
    confidence = confidence.double()
    score, unseen = search.score.clone(), search.unseen.clone()
    score[looked] = confidence
    unseen[looked] = False
    best = looked[confidence >= confidence.quantile(percentile / 100)]
    for moment in best.tolist():  # one after the other: a raised score is spread in turn
        low, high = max(0, moment - window), min(len(score), moment + window + 1)
        share = score[moment] / ((torch.arange(low, high) - moment).abs() + 1)
        score[low:high] = score[low:high].maximum(share)
    return Search(score, look_chance(score, unseen, smooth), unseen)


def look_closer(search: Search, moment: int, confidence: float) -> Search:
    """The score of one moment, after a look at it alone; it may fall."""
    score = search.score.clone()
    score[moment] = confidence
    return replace(search, score=score)


def look_chance(score: Tensor, unseen: Tensor, smooth: float = 0.5) -> Tensor:
    """A smooth curve through the scores of the seen moments, as a probability (n,).

    Fewer than four seen moments carry no curve: every moment is then as likely.
    """
    total = len(score)
    seen = (~unseen).nonzero()[:, 0]
    if len(seen) < 4:
        return torch.full_like(score, 1 / total)
    curve = smoothing_spline(seen, score[seen], smooth, torch.arange(total))
    chance = curve.clamp(min=1 / total).sigmoid()
    return chance / chance.sum()


def cells_of_boxes(
    boxes: Tensor,
    label: Tensor,
    confidence: Tensor,
    weight: Tensor,
    grid: tuple[int, int],
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """What a detector found in each cell of a picture tiled of frames.

    A box belongs to the cell that holds its centre; beyond the right or lower edge, to the last.

    Args:
        boxes: (k, 4) x0 y0 x1 y1 in pixels.
        label: (k,) the class of each box.
        confidence: (k,) of each box.
        weight: (classes,) how much each class counts.
        grid: (rows, columns).
        size: (height, width) of the picture.

    Returns:
        The highest weighted confidence of each cell (rows, columns), 0 without a box, and the
        number of boxes of each class in each cell (rows * columns, classes).
    """
    rows, columns = grid
    x = (boxes[:, 0] + boxes[:, 2]).double() / 2
    y = (boxes[:, 1] + boxes[:, 3]).double() / 2
    column = (x // (size[1] / columns)).long().clamp(0, columns - 1)
    row = (y // (size[0] / rows)).long().clamp(0, rows - 1)
    cell = row * columns + column
    best = torch.zeros(rows * columns, dtype=torch.float64, device=boxes.device)
    best = best.scatter_reduce(0, cell, confidence.double() * weight.double()[label], "amax")
    classes = len(weight)
    count = (cell * classes + label).bincount(minlength=rows * columns * classes)
    return best.view(rows, columns), count.view(-1, classes)


def found_moments(search: Search, count: int) -> Tensor:
    """The `count` moments of highest score, ascending.

    Where fewer were found, the rest are spread evenly over those not seen, then over all others.
    """
    found = best_moments(search.score, min(count, int((search.score > FLOOR).sum())))
    for mask in (search.unseen, torch.ones_like(search.unseen)):
        mask = mask.clone()
        mask[found] = False
        rest = mask.nonzero()[:, 0]
        more = min(count - len(found), len(rest))
        spread = (2 * torch.arange(more) + 1) * len(rest) // max(1, 2 * more)
        found = torch.cat([found, rest[spread]])
    return found.sort().values


def drawn_moments(search: Search, count: int, generator: torch.Generator) -> Tensor:
    """`count` moments drawn without replacement in proportion to their score, ascending.

    Where fewer have a score, it is as `found_moments` says.
    """
    if int((search.score > 0).sum()) < count:
        return found_moments(search, count)
    return torch.multinomial(search.score, count, generator=generator).sort().values


def best_moments(score: Tensor, count: int) -> Tensor:
    """The `count` moments of highest score, ascending; ties go to the earlier one."""
    return score.argsort(descending=True, stable=True)[:count].sort().values
