"""Rows made up for tests of what is drawn and told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sparsight.tune.rows import Role, Row, TaskScore


def row(
    label: str, accuracy: float, share: float = 0.25, role: Role = "system", **other: Any
) -> Row:
    """A row of 100 questions whose costs follow from its share of 1,000 tokens."""
    made = Row(
        model="mini",
        label=label,
        role=role,
        plan="",
        knobs={label.partition(":")[0]: {}},
        count=100,
        failures=0,
        reasons={},
        accuracy=accuracy,
        interval95=(max(0.0, accuracy - 0.08), min(1.0, accuracy + 0.08)),
        score=accuracy,
        diff=accuracy - 0.8,
        diff_interval=(accuracy - 0.86, accuracy - 0.74),
        p_value=1.0 if accuracy > 0.75 else 0.01,
        loyalty=0.9,
        visual_seen=1000.0,
        visual_kept=1000 * share,
        visual_mean=1000 * share,
        share=share,
        flops={"tower": 1e12, "prefill": 4e12 * share, "decode": 1e10},
        kv_bytes=1e8 * share,
        stages={"encode": 0.1, "prefill": 0.4 * share},
        first_token=0.1 + 0.4 * share,
        total=0.2 + 0.4 * share,
        own=0.001,
        memory=10**9,
        tasks={"color": TaskScore(accuracy, (accuracy - 0.1, accuracy + 0.1), 50)},
    )
    return replace(made, **other)


def full(**other: Any) -> Row:
    return row("full", 0.8, 1.0, "full", **{"knobs": {}, **other})


def field() -> list[Row]:
    """The full model, two systems at two budgets each, and a baseline beside them."""
    beside = {0.5: ("random:keep=0.5",), 0.1: ("random:keep=0.1",)}
    return [
        full(),
        row("holitom:keep=0.5", 0.79, 0.5, beside=beside[0.5]),
        row("holitom:keep=0.1", 0.77, 0.1, beside=beside[0.1]),
        row("fastv:keep=0.5", 0.7, 0.5, beside=beside[0.5]),
        row("fastv:keep=0.1", 0.5, 0.1, beside=beside[0.1]),
        row("random:keep=0.5", 0.76, 0.5, "baseline"),
        row("random:keep=0.1", 0.6, 0.1, "baseline"),
    ]
