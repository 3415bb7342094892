"""What a plan gave and cost on some items, held against the full model on the same ones."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.measure.statistics import median

_GUESSES = 50  # different answers of a task that are tried as its best guess


@dataclass(frozen=True)
class Figures:
    """One plan on the items asked so far.

    hits, full_hits   right or wrong, item by item, for the plan and for the full model
    guess             share right by the best guess without looking, one for each task
    failures          items that failed; each counts as wrong, and costs what the full model costs
    cost              operations as a share of the full model's, tower, prefill and decode
    flops             operations an item, on the mean
    tokens            visual tokens averaged over the LLM's layers: the most of any item
    kv_bytes          bytes of the key-value cache: the most of any item
    first_token       seconds to the first token: the median over items
    slowness          `first_token` as a share of the full model's
    """

    hits: tuple[bool, ...]
    full_hits: tuple[bool, ...]
    guess: float
    failures: int
    cost: float
    flops: float
    tokens: float
    kv_bytes: int
    first_token: float
    slowness: float

    @property
    def count(self) -> int:
        return len(self.hits)

    @property
    def accuracy(self) -> float:
        return sum(self.hits) / len(self.hits)

    @property
    def full_accuracy(self) -> float:
        return sum(self.full_hits) / len(self.full_hits)

    @property
    def blind(self) -> bool:
        """Whether the full model itself is hardly better than guessing: then no plan can be told
        from another."""
        chance = math.sqrt(self.guess * (1 - self.guess) / self.count)
        return self.full_accuracy < self.guess + 2 * chance

    @property
    def kept(self) -> float:
        """The share of the full model's accuracy."""
        return self.accuracy / self.full_accuracy if self.full_accuracy else float("nan")


def figures(records: Sequence[Record], full: Sequence[Record], guesses: Sequence[bool]) -> Figures:
    """Sum up the records of a plan; `full` and `guesses` are of the same items in their order."""
    assert records, "no records"
    assert [item.item for item in records] == [item.item for item in full], "not the same items"
    # A request that fails has to be asked again without the plan.
    spent = [f if r.error is not None else r for r, f in zip(records, full, strict=True)]
    fair = [(s, f) for s, f in zip(spent, full, strict=True) if f.error is None]
    flops, full_flops = (sum(operations(pair[side]) for pair in fair) for side in (0, 1))
    first, full_first = (median([item.first_token for item in found]) for found in (spent, full))
    return Figures(
        hits=tuple(item.right for item in records),
        full_hits=tuple(item.right for item in full),
        guess=sum(guesses) / len(guesses),
        failures=sum(item.error is not None for item in records),
        cost=flops / full_flops if full_flops else 1.0,
        flops=flops / max(1, len(fair)),
        tokens=max(item.visual_mean for item in spent),
        kv_bytes=max(item.kv_bytes for item in spent),
        first_token=first,
        slowness=first / full_first if full_first else 1.0,
    )


def operations(record: Record) -> float:
    """All operations of one answer."""
    return sum(record.flops.values())


def best_guesses(items: Sequence[Item]) -> list[bool]:
    """Whether each item is answered by the best answer that does not look: for each task, that of
    its answers which is right most often."""
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_task[item.task].append(item)
    best = {}
    for task, found in by_task.items():
        common = Counter(item.answer for item in found).most_common(_GUESSES)
        hits = {reply: sum(item.right(reply) for item in found) for reply, _ in common}
        best[task] = max(hits, key=lambda reply: hits[reply])
    return [item.right(best[item.task]) for item in items]
