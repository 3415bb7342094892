"""Budgets for the baselines at which they cost what a system costs.

A baseline shortens the tokens before the LLM, so a share of tokens gives it a number of tokens or
of operations that its own code decides: it rounds, it cannot divide a grid at will, it must leave
separators. It is therefore run, without the model, on the tokens of a sample of the items, and
the share is found at which it comes nearest to what is wanted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.runner import frames_of
from sparsight.core.registry import build
from sparsight.core.slots import Request
from sparsight.core.tokens import VisualTokens
from sparsight.measure.flops import DecoderShape, decoder_shape, prefill_flops

if TYPE_CHECKING:
    from sparsight.vlm.pipeline import VLM

#: What is made equal: visual tokens averaged over the LLM's layers, or operations before the
#: first token (those after it depend on the answer).
Equal = Literal["tokens", "flops"]

SAMPLE = 24  # items that shares are tried on
_STEPS = 10_000  # shares are tried in steps of a ten thousandth


def spent(record: Record, equal: Equal) -> float:
    """What is to be made equal of one record."""
    if equal == "tokens":
        return record.visual_mean
    return sum(count for name, count in record.flops.items() if name != "decode")


def part_of_full(records: Sequence[Record], full: Sequence[Record], equal: Equal) -> float | None:
    """What a plan spends over what the full model does, on the items that both answered."""
    pairs = [
        (spent(a, equal), spent(b, equal))
        for a, b in zip(records, full, strict=True)
        if a.error is b.error is None
    ]
    whole = sum(second for _, second in pairs)
    return sum(first for first, _ in pairs) / whole if whole else None


@dataclass(frozen=True)
class _Sampled:
    """What the full model spends on one item: `layout` is the place of its tokens' layout."""

    layout: int
    tower: float
    text: int  # tokens of the prompt that are not visual


class Shares:
    """Finds shares at which baselines cost a part of what the full model does.

    Args:
        vlm: the model without systems; a sample of the items is encoded once, when the first
            share is asked for.
        items, full: what was asked and the full model's records of it.
    """

    def __init__(
        self, vlm: VLM, items: Sequence[Item], full: Sequence[Record], equal: Equal
    ) -> None:
        self.vlm, self.items, self.full, self.equal = vlm, items, full, equal
        self._shape: DecoderShape = decoder_shape(vlm.family.decoder.config)
        self._layouts: list[tuple[VisualTokens, ...]] = []
        self._sample: Counter[_Sampled] = Counter()
        self._counts: dict[tuple[str, int], list[int]] = {}

    def share(self, baseline: str, part: float) -> float | None:
        """The share at which `baseline` comes nearest to `part` of what the full model spends;
        of several that leave the same tokens the one with the fewest digits.

        None where its smallest share costs more than a tenth too much: there is no such
        baseline.
        """
        target = part * self._cost(baseline, _STEPS)
        above = self._first(baseline, target)
        near = min(
            (step for step in (above - 1, above) if step >= 1),
            key=lambda step: abs(self._cost(baseline, step) - target),
        )
        cost = self._cost(baseline, near)
        if near == 1 and cost > 1.1 * target:
            return None
        first, last = self._first(baseline, cost), self._first(baseline, cost * (1 + 1e-9)) - 1
        if self._cost(baseline, last + 1) == cost:
            last += 1  # the very last step
        return _roundest(first, last) / _STEPS

    def _first(self, baseline: str, target: float) -> int:
        """The first step that costs at least `target`; the last step where none does."""
        low, high = 1, _STEPS
        while low < high:
            middle = (low + high) // 2
            if self._cost(baseline, middle) >= target:
                high = middle
            else:
                low = middle + 1
        return low

    def _cost(self, baseline: str, step: int) -> float:
        """What the sample costs under a baseline."""
        if not self._sample:
            self._look()
        key = (baseline, step)
        if key not in self._counts:
            reducer = build(baseline, {"keep": step / _STEPS})
            nothing = Request("", torch.empty(0, 0))
            self._counts[key] = [
                sum(len(reducer.reduce(tokens, nothing)) for tokens in media)
                for media in self._layouts
            ]
        counts = self._counts[key]
        if self.equal == "tokens":
            return sum(times * counts[item.layout] for item, times in self._sample.items())
        layers = self._shape.layers
        return sum(
            times
            * (item.tower + prefill_flops(self._shape, [item.text + counts[item.layout]] * layers))
            for item, times in self._sample.items()
        )

    def _look(self) -> None:
        """Encode items spread evenly over all that the full model answered."""
        usable = [place for place, record in enumerate(self.full) if record.error is None]
        count = min(SAMPLE, len(usable))
        known: dict[tuple[object, ...], int] = {}
        for place in (usable[(2 * i + 1) * len(usable) // (2 * count)] for i in range(count)):
            item, record = self.items[place], self.full[place]
            found = self.vlm.encode(item.sources(), frames=frames_of(self.vlm, item))
            media = tuple(_bare(tokens) for tokens in found)
            layout = known.setdefault(_layout(media), len(known))
            if layout == len(self._layouts):
                self._layouts.append(media)
            text = _text_tokens(self._shape, sum(map(len, media)), record.flops["prefill"])
            self._sample[_Sampled(layout, record.flops["tower"], text)] += 1


def _roundest(first: int, last: int) -> int:
    """Of the steps from `first` to `last` the first with the fewest digits as a share."""
    for coarse in (1000, 100, 10):
        step = -(-first // coarse) * coarse
        if step <= last:
            return step
    return first


def _layout(media: Sequence[VisualTokens]) -> tuple[object, ...]:
    """Equal where baselines do the same."""
    return tuple(
        (
            tuple(tokens.prunable.tolist()),
            tuple(tokens.view.tolist()),
            tuple(tokens.box.flatten().tolist()),
        )
        for tokens in media
    )


def _bare(tokens: VisualTokens) -> VisualTokens:
    """Where the tokens lie, without what they hold: little to keep, quick to shorten."""
    return replace(
        tokens,
        embeds=tokens.embeds[:, :1].cpu(),
        **{
            name: getattr(tokens, name).cpu()
            for name in ("time", "box", "view", "weight", "prunable", "index", "coords")
        },
        views=replace(tokens.views, inputs={}),
        signals={},
        extra=(),
        score=None,
        group=None,
        projector=None,
    )


def _text_tokens(shape: DecoderShape, visual: int, prefill: float) -> int:
    """How many other tokens a prompt has whose prefill takes so many operations."""
    low, high = 0, 1
    while prefill_flops(shape, [visual + high] * shape.layers) < prefill:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        if prefill_flops(shape, [visual + middle] * shape.layers) < prefill:
            low = middle + 1
        else:
            high = middle
    return low
