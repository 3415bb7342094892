"""One line of a comparison: a plan on a model, how well it answered and what that cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import yaml

from sparsight.bench.record import Record
from sparsight.core.plan import Plan
from sparsight.measure.statistics import interval_of_difference, mcnemar, wilson

#: What a row is: the model as it is, a system or plan that was asked for, a baseline beside one.
Role = Literal["full", "system", "baseline"]

FULL = "full"

_STAGES = ("fetch", "select", "decode", "preprocess", "encode", "connect+reduce", "prefill")


@dataclass(frozen=True)
class TaskScore:
    """Accuracy on one task, its 95 % interval and how many questions it has."""

    accuracy: float
    interval: tuple[float, float]
    count: int


@dataclass(frozen=True)
class Row:
    """A plan on a model over all items.

    model, label    the model's name; the plan's, unique within the model
    role            what the row stands for
    plan            the plan as YAML
    knobs           system -> its knobs
    count           items asked, the failed ones among them
    failures        items that failed; each counts as wrong
    reasons         why -> how many
    accuracy        share of right answers, `interval95` by Wilson; `score` the mean score
    diff            accuracy less the full model's on the same items; `diff_interval` its 95 %
                    interval (paired bootstrap), `p_value` of McNemar's exact test
    loyalty         share of items that the full model answers with the same words
    visual_seen, visual_kept, visual_mean
                    tokens a question: before reduction, into the LLM, averaged over its layers
    share           `visual_mean` over the full model's, on the items that both answered
    flops           operations a question: tower, prefill, decode
    kv_bytes        bytes of the key-value cache a question
    stages          seconds a question in each stage; `first_token`, `total` and `own`, the
                    seconds that the systems themselves took, likewise
    memory          the most bytes that one question took above what stood before it
    tasks           task -> its score
    beside          labels of the baselines at the same budget
    """

    model: str
    label: str
    role: Role
    plan: str
    knobs: dict[str, dict[str, Any]]
    count: int
    failures: int
    reasons: dict[str, int]
    accuracy: float
    interval95: tuple[float, float]
    score: float
    diff: float
    diff_interval: tuple[float, float]
    p_value: float
    loyalty: float
    visual_seen: float
    visual_kept: float
    visual_mean: float
    share: float
    flops: dict[str, float]
    kv_bytes: float
    stages: dict[str, float]
    first_token: float
    total: float
    own: float
    memory: int
    tasks: dict[str, TaskScore]
    beside: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def row_of(
    records: Sequence[Record],
    full: Sequence[Record],
    *,
    model: str = "",
    label: str = "",
    plan: Plan | None = None,
    role: Role = "system",
) -> Row:
    """Sum up the records of a plan beside those of the full model.

    `full` holds the same items in the same order. Costs are means over the items that were
    answered; rates count a failed item as a wrong answer.
    """
    assert records, "no records"
    assert [item.item for item in records] == [item.item for item in full], "not the same items"
    pairs = list(zip(records, full, strict=True))
    answered = [item for item in records if item.error is None]
    right = sum(item.right for item in records)
    lost = sum(b.right and not a.right for a, b in pairs)
    won = sum(a.right and not b.right for a, b in pairs)
    hits, hits_full = [item.right for item in records], [item.right for item in full]
    same = sum(a.error is b.error is None and a.reply == b.reply for a, b in pairs)
    both = [(a.visual_mean, b.visual_mean) for a, b in pairs if a.error is b.error is None]
    count = len(records)

    def mean(value: Callable[[Record], float]) -> float:
        return sum(map(value, answered)) / len(answered) if answered else 0.0

    def means(values: Callable[[Record], Mapping[str, float]]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for item in answered:
            for name, value in values(item).items():
                sums[name] = sums.get(name, 0.0) + value
        return {name: total / len(answered) for name, total in sums.items()}

    return Row(
        model=model,
        label=label,
        role=role,
        plan="" if plan is None else plan.to_yaml(),
        knobs={} if plan is None else knobs_of(plan),
        count=count,
        failures=count - len(answered),
        reasons=dict(Counter(item.error for item in records if item.error is not None)),
        accuracy=right / count,
        interval95=wilson(right, count),
        score=sum(item.score for item in records) / count,
        diff=(won - lost) / count,
        diff_interval=interval_of_difference(hits, hits_full),
        p_value=mcnemar(lost, won),
        loyalty=same / count,
        visual_seen=mean(lambda item: item.visual_seen),
        visual_kept=mean(lambda item: item.visual_kept),
        visual_mean=mean(lambda item: item.visual_mean),
        share=_ratio(both),
        flops=means(lambda item: item.flops),
        kv_bytes=mean(lambda item: item.kv_bytes),
        stages=_in_order(means(lambda item: item.stages)),
        first_token=mean(lambda item: item.first_token),
        total=mean(lambda item: item.total),
        own=mean(lambda item: item.own),
        memory=max((item.memory for item in answered), default=0),
        tasks=_tasks(records),
    )


def knobs_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """The systems of a plan with their knobs, every one written out."""
    systems: dict[str, dict[str, Any]] = {}
    for item in yaml.safe_load(plan.to_yaml())["systems"]:
        systems |= item
    return systems


def _tasks(records: Sequence[Record]) -> dict[str, TaskScore]:
    by_task: dict[str, list[bool]] = {}
    for item in records:
        by_task.setdefault(item.task, []).append(item.right)
    return {
        task: TaskScore(sum(hits) / len(hits), wilson(sum(hits), len(hits)), len(hits))
        for task, hits in by_task.items()
    }


def _in_order(stages: dict[str, float]) -> dict[str, float]:
    """The stages in the order of a request, those of other pipelines behind."""
    known = [name for name in _STAGES if name in stages]
    return {name: stages[name] for name in dict.fromkeys([*known, *stages])}


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """The first of each pair summed over the second summed; 0 for nothing."""
    whole = sum(second for _, second in pairs)
    return sum(first for first, _ in pairs) / whole if whole else 0.0
