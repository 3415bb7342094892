"""Bars of a comparison as inline SVG: accuracy by task, and seconds by stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from sparsight.measure.costs import seconds
from sparsight.measure.panels import percent
from sparsight.tune.rows import Row, TaskScore

#: What is left of the whole after the stages: the steps of the answer behind its first token.
ANSWERING = "answering"


def task_bars(rows: Sequence[Row]) -> str:
    """A panel a task: each row's accuracy with its interval, a line at the full model's."""
    full = next((row for row in rows if row.role == "full"), None)
    tasks = dict.fromkeys(task for row in rows for task in row.tasks)
    panels = "".join(_task(task, rows, full) for task in tasks)
    return f'<div class="tasks">{panels}</div>'


def stage_bars(rows: Sequence[Row]) -> str:
    """A bar a row: its seconds a question, stage by stage; the same numbers as a table."""
    spent = {id(row): stages_of(row) for row in rows}
    names = list(dict.fromkeys(name for stages in spent.values() for name in stages))
    longest = max((sum(stages.values()) for stages in spent.values()), default=0.0) or 1.0
    key = "".join(
        f'<span><i class="stage{place % 8}"></i>{escape(name)}</span>'
        for place, name in enumerate(names)
    )
    bars = "".join(_stacked(row, spent[id(row)], names, longest) for row in rows)
    return (
        f'<div class="key">{key}</div><div class="bars">{bars}</div>'
        f"<details><summary>in numbers</summary>{_stage_table(rows, names)}</details>"
    )


def stages_of(row: Row) -> dict[str, float]:
    """Seconds of each stage, and last what the steps of the answer took."""
    rest = row.total - sum(row.stages.values())
    return {**row.stages, ANSWERING: rest} if rest > 0 else dict(row.stages)


def name_of(label: str) -> str:
    """A plan's name, escaped, that may be broken between its knobs."""
    return re.sub(r"(?<=[:,+])(?! )", "<wbr>", escape(label, quote=False))


# ---- tasks -------------------------------------------------------------------------------------


def _task(task: str, rows: Sequence[Row], full: Row | None) -> str:
    whole = full.tasks.get(task) if full is not None else None
    counts = [row.tasks[task].count for row in rows if task in row.tasks]
    bars = "".join(_accuracy(row, row.tasks[task], whole) for row in rows if task in row.tasks)
    many = "question" if max(counts) == 1 else "questions"
    return (
        f"<section><h3>{escape(task)} <span>{max(counts):,} {many}</span></h3>"
        f'<div class="bars">{bars}</div></section>'
    )


def _accuracy(row: Row, score: TaskScore, whole: TaskScore | None) -> str:
    low, high = score.interval
    level = "" if whole is None else _upright("level", whole.accuracy, "0", "100%")
    told = f"{row.label}: {percent(score.accuracy)} ({percent(low)} to {percent(high)})"
    return (
        f'<div class="bar {row.role}" data-tip="{escape(told, quote=True)}">'
        f"<span>{name_of(row.label)}</span>"
        f'<svg height="16" width="100%" aria-hidden="true">'
        f'<rect x="0" y="3" height="10" width="{_share(score.accuracy)}"/>{level}'
        f'<line class="interval" x1="{_share(low)}" x2="{_share(high)}" y1="8" y2="8"/>'
        f"{_upright('interval', low, '5', '11')}{_upright('interval', high, '5', '11')}</svg>"
        f"<b>{percent(round(score.accuracy, 2))}</b></div>"
    )


def _upright(name: str, share: float, top: str, bottom: str) -> str:
    at = _share(share)
    return f'<line class="{name}" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>'


# ---- stages ------------------------------------------------------------------------------------


def _stacked(row: Row, stages: dict[str, float], names: Sequence[str], longest: float) -> str:
    left, parts = 0.0, []
    for place, name in enumerate(names):
        value = stages.get(name, 0.0)
        if value > 0:
            told = escape(f"{row.label}: {name} {seconds(value)}", quote=True)
            parts.append(
                f'<rect class="stage{place % 8}" data-tip="{told}" x="{_share(left / longest)}" '
                f'y="1" height="14" width="{_share(value / longest)}"/>'
            )
        left += value
    return (
        f'<div class="bar {row.role}"><span>{name_of(row.label)}</span>'
        f'<svg height="16" width="100%" aria-hidden="true">{"".join(parts)}</svg>'
        f"<b>{seconds(left)}</b></div>"
    )


def _stage_table(rows: Sequence[Row], names: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("plan", *names, "total"))
    body = []
    for row in rows:
        stages = stages_of(row)
        cells = [seconds(stages[name]) if name in stages else "" for name in names]
        cells.append(seconds(sum(stages.values())))
        inside = "".join(f"<td>{cell}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{name_of(row.label)}</th>{inside}</tr>')
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _share(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.2f}%"
