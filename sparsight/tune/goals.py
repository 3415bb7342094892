"""What a search is after: an accuracy to keep, limits on costs, or the most accuracy per FLOP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sparsight.core.errors import UserError
from sparsight.measure import costs
from sparsight.measure.panels import percent
from sparsight.tune import units
from sparsight.tune.evidence import CAUTION, lag
from sparsight.tune.figures import Figures

T = TypeVar("T")


@dataclass(frozen=True)
class Limit:
    """The most that something may be.

    name    the option that sets it
    most    in base units: seconds, tokens, bytes, operations, a share
    value   the same of a plan's figures
    words   a value in words, with its unit
    of_every  whether it holds for every item; else for their mean or median
    """

    name: str
    most: float
    value: Callable[[Figures], float]
    words: Callable[[float], str]
    of_every: bool = False

    def over(self, found: Figures) -> float:
        """By which share of the limit a plan is above it; 0 or less: it is not."""
        return self.value(found) / self.most - 1


@dataclass(frozen=True)
class Goal:
    """What the best plan is.

    With `keep_accuracy` (a share of the full model's) it is the cheapest plan that keeps it and
    stays within the limits; with limits alone, the most accurate plan within them; with neither,
    the plan with the most accuracy above guessing for its operations.

    max_first_token     seconds: the median over items, asked one at a time
    max_visual_tokens   visual tokens averaged over the LLM's layers: of every item
    max_kv              bytes of the key-value cache: of every item
    max_flops           operations of tower, prefill and decode: the mean over items
    max_flops_share     the same as a share of the full model's
    """

    keep_accuracy: float | None = None
    max_first_token: float | None = None
    max_visual_tokens: int | None = None
    max_kv: int | None = None
    max_flops: float | None = None
    max_flops_share: float | None = None

    @property
    def limits(self) -> list[Limit]:
        every = [
            ("--max-first-token", self.max_first_token, _first_token, costs.seconds, False),
            ("--max-visual-tokens", self.max_visual_tokens, _tokens, _count, True),
            ("--max-kv", self.max_kv, _kv_bytes, costs.size, True),
            ("--max-flops", self.max_flops, _flops, costs.operations, False),
            ("--max-flops", self.max_flops_share, _cost, percent, False),
        ]
        return [Limit(item[0], item[1], *item[2:]) for item in every if item[1] is not None]

    @property
    def timed(self) -> bool:
        """Whether seconds count."""
        return self.max_first_token is not None

    def cost(self, found: Figures) -> float:
        """What a plan costs as a share of the full model: seconds where the goal is a time,
        else operations by formula, which do not waver."""
        return found.slowness if self.timed else found.cost

    @property
    def accuracy_counts(self) -> bool:
        """Whether, within the limits, accuracy is all that counts."""
        return self.keep_accuracy is None and bool(self.limits)

    def objectives(self, found: Figures) -> tuple[float, float]:
        """Accuracy (the more the better) and cost (the less) as the sampler is told them: beyond
        what is asked for, neither is worth anything."""
        cost = self.cost(found)
        if self.accuracy_counts:
            return found.accuracy, max([0.0, *(limit.over(found) for limit in self.limits)])
        return found.accuracy, cost

    def overs(self, found: Figures, caution: float = CAUTION) -> dict[str, float]:
        """Option -> by how much a plan misses it; 0 or less: it does not.

        caution: standard errors by which the accuracy must be above what is to be kept.
        """
        missed = {limit.name: limit.over(found) for limit in self.limits}
        if self.keep_accuracy is not None:
            mean, error = lag(found.hits, found.full_hits, self.keep_accuracy)
            missed["--keep-accuracy"] = caution * error - mean
        return missed

    def holds(self, found: Figures, caution: float = CAUTION) -> bool:
        """Whether a plan satisfies every part of the goal."""
        return all(over <= 0 for over in self.overs(found, caution).values())

    def order(self, found: Figures) -> tuple[float, ...]:
        """What the best plan has the least of: plans that satisfy the goal come first, by its
        measure; then those that do not, by how much they miss it."""
        missed = max([0.0, *self.overs(found).values()])
        if missed > 0:
            return (1.0, missed, self.cost(found))
        if self.keep_accuracy is not None:
            return (0.0, self.cost(found), -found.accuracy)
        if self.limits:
            return (0.0, -found.accuracy, self.cost(found))
        return (0.0, -gain(found) / max(self.cost(found), 1e-9), self.cost(found))

    @property
    def words(self) -> str:
        """The goal in a line."""
        limits = ", ".join(f"{item.name[2:]} {item.words(item.most)}" for item in self.limits)
        within = f", within {limits}" if limits else ""
        if self.keep_accuracy is not None:
            kept = percent(self.keep_accuracy)
            return f"the cheapest plan that keeps {kept} of the full model's accuracy{within}"
        if limits:
            return f"the most accurate plan{within}"
        return "the plan with the most accuracy above guessing for its operations"

    def reached(self, found: Figures) -> list[str]:
        """What a plan reached of each part of the goal, a line each."""
        told = []
        if self.keep_accuracy is not None:
            wanted = percent(self.keep_accuracy)
            told.append(f"keeps {percent(found.kept)} of the full accuracy (wanted: {wanted})")
        for item in self.limits:
            value, most = item.words(item.value(found)), item.words(item.most)
            told.append(f"{item.name[2:]} {value} (wanted: at most {most})")
        return told or [
            f"{percent(gain(found))} accuracy above guessing at {percent(found.cost)} of the FLOPs"
        ]


def gain(found: Figures) -> float:
    """Accuracy above the best guess that does not look."""
    return found.accuracy - found.guess


def goal_of(
    keep_accuracy: str | None = None,
    max_first_token: str | None = None,
    max_visual_tokens: int | None = None,
    max_kv: str | None = None,
    max_flops: str | None = None,
) -> Goal:
    """A goal from what a command line gives. Raises `UserError` naming the option and its form."""
    if max_visual_tokens is not None and max_visual_tokens < 1:
        raise UserError(f"--max-visual-tokens {max_visual_tokens}: give 1 or more")
    flops, is_share = _given(units.operations, max_flops, "--max-flops") or (None, False)
    return Goal(
        keep_accuracy=_given(units.share, keep_accuracy, "--keep-accuracy"),
        max_first_token=_given(units.seconds, max_first_token, "--max-first-token"),
        max_visual_tokens=max_visual_tokens,
        max_kv=_given(units.byte_count, max_kv, "--max-kv"),
        max_flops=None if is_share else flops,
        max_flops_share=flops if is_share else None,
    )


def _given(read: Callable[[str, str], T], text: str | None, name: str) -> T | None:
    return None if text is None else read(text, name)


def _first_token(found: Figures) -> float:
    return found.first_token


def _tokens(found: Figures) -> float:
    return found.tokens


def _kv_bytes(found: Figures) -> float:
    return found.kv_bytes


def _flops(found: Figures) -> float:
    return found.flops


def _cost(found: Figures) -> float:
    return found.cost


def _count(value: float) -> str:
    return f"{value:,.0f}"
