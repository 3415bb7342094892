"""What a comparison says, in words drawn from its numbers and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sparsight.measure.panels import percent
from sparsight.measure.statistics import median
from sparsight.tune.front import unbeaten
from sparsight.tune.rows import Row

Standing = Literal["as good", "not clearly behind", "behind"]

_SURE = 0.05  # a smaller p-value is called a difference
_NEAR = 1.1  # baselines with up to so many times the tokens count as of the same budget
_COARSE = 0.05  # accuracy: where larger differences may hide, the reader is warned


@dataclass(frozen=True)
class Rival:
    """The best baseline at the budget of a row, and how it stands against the row."""

    row: Row
    standing: Standing


def differs(row: Row) -> bool:
    """Whether a row's accuracy is clearly another than the full model's."""
    return row.p_value < _SURE


def keeps(row: Row) -> bool:
    """Whether a row answers as well as the full model, as far as its questions can tell."""
    return row.failures < row.count and not (differs(row) and row.diff < 0)


def verdict(row: Row) -> str:
    """How a row stands against the full model: "worse", "better" or "no clear difference"."""
    if not differs(row):
        return "no clear difference"
    return "worse" if row.diff < 0 else "better"


def rival(row: Row, rows: Sequence[Row]) -> Rival | None:
    """The most accurate baseline beside a row; without named ones, of those with no more tokens."""
    baselines = [item for item in rows if item.role == "baseline" and item.model == row.model]
    beside = [item for item in baselines if item.label in row.beside]
    if not row.beside:
        beside = [item for item in baselines if item.share <= _NEAR * row.share]
    beside = [item for item in beside if item is not row and item.failures < item.count]
    if not beside:
        return None
    best = max(beside, key=lambda item: item.accuracy)
    if best.accuracy >= row.accuracy:
        return Rival(best, "as good")
    if best.interval95[1] >= row.accuracy:
        return Rival(best, "not clearly behind")
    return Rival(best, "behind")


def conclusion(rows: Sequence[Row]) -> str:
    """One sentence about the rows of one model: who keeps the accuracy at how few tokens, and
    whether a baseline does so too."""
    full = next(row for row in rows if row.role == "full")
    plans = [row for row in rows if row.role != "full"]
    whole = f"within noise of the full model ({percent(full.accuracy)} right)"
    questions = _many(full.count, "question")
    if not plans:
        return f"On {questions}, the full model alone was asked: {percent(full.accuracy)} right."
    kept = [row for row in plans if keeps(row)]
    if not kept:
        nearest = max(plans, key=lambda row: row.accuracy)
        return (
            f"On {questions}, none of {_many(len(plans), 'plan')} is {whole}: the nearest, "
            f"{_told(nearest)}."
        )
    leanest = min(kept, key=lambda row: (row.share, -row.accuracy))
    are = "is" if len(kept) == 1 else "are"
    return (
        f"On {questions}, {len(kept)} of {_many(len(plans), 'plan')} {are} {whole}: the leanest, "
        f"{_told(leanest)}; {_against_baselines(leanest, rows)}."
    )


def cautions(rows: Sequence[Row]) -> list[str]:
    """What a reader of the conclusion about one model has to know besides, a sentence each."""
    plans = [row for row in rows if row.role != "full"]
    told = []
    if plans:
        widths = [(row.diff_interval[1] - row.diff_interval[0]) / 2 for row in plans]
        unseen = median([width for width in widths if width > 0] or [0.0])
        if unseen > 0:
            told.append(
                f"With {_many(plans[0].count, 'question')}, differences to the full model below "
                f"about {100 * unseen:.1f} points do not show"
                + (": ask more questions before relying on it." if unseen > _COARSE else ".")
            )
    if len(plans) >= 20:
        told.append(
            f"Of {len(plans)} tests at the 5 % level, about {round(len(plans) * _SURE)} call "
            "equal plans different by chance, and the leanest of many is partly luck."
        )
    return [*told, *_beaten(rows), *_failed(rows)]


def systems(row: Row) -> str:
    """The systems of a row without their knobs: rows of one kind differ in the budget."""
    return " + ".join(row.knobs) or row.label


def foremost(rows: Sequence[Row], most: int) -> list[Row]:
    """The `most` rows of one model that tell most, in their order; all of fewer.

    The full model and the front of accuracy over operations, the best baselines beside the front,
    then what keeps the accuracy with the fewest tokens, then the rest by accuracy.
    """
    answered = [row for row in rows if row.failures < row.count]
    best = unbeaten([(sum(row.flops.values()), row.accuracy) for row in answered])
    wanted = [row for row in rows if row.role == "full"] + [answered[at] for at in best]
    wanted += [found.row for row in wanted if (found := rival(row, rows)) is not None]
    wanted += sorted((row for row in rows if keeps(row)), key=lambda row: row.share)
    wanted += sorted(rows, key=lambda row: -row.accuracy)
    chosen = list({id(row): row for row in wanted})[:most]
    return [row for row in rows if id(row) in chosen]


def points(difference: float) -> str:
    """A difference of accuracies: "-0.8", "+1.3", "0.0"."""
    words = f"{100 * difference:+.1f}"
    return "0.0" if float(words) == 0 else words


def _against_baselines(row: Row, rows: Sequence[Row]) -> str:
    if row.role == "baseline":
        return "it is a baseline, and no system does with fewer tokens"
    found = rival(row, rows)
    if found is None:
        return "no baseline was asked at that budget"
    name, accuracy = found.row.label, percent(found.row.accuracy)
    return {
        "as good": f"the baseline {name} is as good there ({accuracy})",
        "not clearly behind": f"the baseline {name} is not clearly worse there ({accuracy})",
        "behind": f"the best baseline there, {name}, falls behind ({accuracy})",
    }[found.standing]


def _beaten(rows: Sequence[Row]) -> list[str]:
    """How many systems a baseline equals; nothing to say where none were set beside one."""
    found = [(row, rival(row, rows)) for row in rows if row.role == "system"]
    rivals = [(row, other) for row, other in found if other is not None]
    if not rivals:
        return []
    equal = [(row, other) for row, other in rivals if other.standing == "as good"]
    plans = _many(len(rivals), "plan")
    if not equal:
        return [f"No baseline is as accurate as any of the {plans} set beside it."]
    names = ", ".join(dict.fromkeys(systems(other.row) for _, other in equal))
    verb = "is" if len(equal) == 1 else "are"
    return [f"{len(equal)} of {plans} {verb} no more accurate than a baseline beside it: {names}."]


def _failed(rows: Sequence[Row]) -> list[str]:
    failing = [row for row in rows if row.failures]
    if not failing:
        return []
    worst = max(failing, key=lambda row: row.failures)
    return [
        f"{_many(len(failing), 'plan')} failed on some questions, which count as wrong answers; "
        f"most often {worst.label}, on {worst.failures} of {worst.count}."
    ]


def _told(row: Row) -> str:
    low, high = row.diff_interval
    return (
        f"{row.label} with {percent(row.share)} of the visual tokens, has {percent(row.accuracy)} "
        f"({points(row.diff)} points, 95 % interval {points(low)} to {points(high)})"
    )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
