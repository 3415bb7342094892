"""The table of a comparison: every row with all its numbers, in HTML that a script can sort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from sparsight.measure.costs import operations, seconds, size
from sparsight.measure.panels import percent
from sparsight.tune.bars import name_of
from sparsight.tune.rows import Row
from sparsight.tune.verdicts import points, rival, verdict


@dataclass(frozen=True)
class Cell:
    """What a cell shows, a remark below it in small letters, and what it is sorted by."""

    text: str
    note: str = ""
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    title: str
    cell: Callable[[Row, Sequence[Row]], Cell]
    help: str = ""


def table(rows: Sequence[Row]) -> str:
    """All rows, those of each model in the order given."""
    columns = _columns(several=len({row.model for row in rows}) > 1)
    heads = "".join(
        f'<th scope="col" title="{escape(column.help, quote=True)}">'
        f'<button type="button">{escape(column.title)}</button></th>'
        for column in columns
    )
    body = "".join(_line(row, rows, columns) for row in rows)
    return (
        f'<div class="wide"><table class="numbers" id="rows"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _line(row: Row, rows: Sequence[Row], columns: Sequence[Column]) -> str:
    cells = []
    for place, column in enumerate(columns):
        cell = column.cell(row, rows)
        tag = 'th scope="row"' if place == 0 else "td"
        value = "" if cell.value is None else f' data-value="{escape(str(cell.value), quote=True)}"'
        note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
        text = escape(cell.text) if place else name_of(cell.text)
        cells.append(f"<{tag}{value}>{text}{note}</{tag.split()[0]}>")
    return f'<tr class="{row.role}">{"".join(cells)}</tr>'


def _columns(several: bool) -> list[Column]:
    model = [Column("model", lambda row, _: Cell(row.model, value=row.model))] if several else []
    return [Column("plan", _plan), *model, *_MEASURED]


def _plan(row: Row, rows: Sequence[Row]) -> Cell:
    return Cell(row.label, row.role if row.role == "baseline" else "", row.label)


def _accuracy(row: Row, rows: Sequence[Row]) -> Cell:
    low, high = row.interval95
    return Cell(percent(row.accuracy), f"{percent(low)} to {percent(high)}", row.accuracy)


def _difference(row: Row, rows: Sequence[Row]) -> Cell:
    if row.role == "full":
        return Cell("", value=0.0)
    low, high = row.diff_interval
    return Cell(points(row.diff), f"{points(low)} to {points(high)}", row.diff)


def _significance(row: Row, rows: Sequence[Row]) -> Cell:
    if row.role == "full":
        return Cell("")
    chance = "p < 0.001" if row.p_value < 0.001 else f"p = {row.p_value:.3f}"
    return Cell(verdict(row), chance, row.p_value)


def _rival(row: Row, rows: Sequence[Row]) -> Cell:
    found = rival(row, rows) if row.role == "system" else None
    if found is None:
        return Cell("")
    told = f"{found.row.label}, {percent(found.row.accuracy)}"
    return Cell(found.standing, told, row.accuracy - found.row.accuracy)


def _tokens(row: Row, rows: Sequence[Row]) -> Cell:
    if row.failures == row.count:
        return Cell("")
    return Cell(f"{row.visual_mean:,.0f}", percent(row.share), row.visual_mean)


def _failures(row: Row, rows: Sequence[Row]) -> Cell:
    reasons = "; ".join(f"{reason} ({count})" for reason, count in row.reasons.items())
    return Cell(f"{row.failures} of {row.count}" if row.failures else "none", reasons, row.failures)


def _cost(
    title: str, value: Callable[[Row], float], told: Callable[[float], str], help: str
) -> Column:
    """A column of one number; nothing where no question was answered."""

    def cell(row: Row, rows: Sequence[Row]) -> Cell:
        cost = value(row)
        return Cell(told(cost), value=cost) if row.failures < row.count else Cell("")

    return Column(title, cell, help)


_MEASURED = [
    Column("accuracy", _accuracy, "share of right answers, 95 % interval"),
    Column("points to full", _difference, "accuracy less the full model's, paired 95 % interval"),
    Column("against full", _significance, "McNemar's exact test on the same questions"),
    Column("best baseline beside", _rival, "the most accurate baseline at the same budget"),
    Column(
        "loyalty",
        lambda row, _: Cell(percent(row.loyalty), value=row.loyalty),
        "share of questions answered with the full model's own words",
    ),
    Column(
        "tokens",
        _tokens,
        "visual tokens a question, averaged over the LLM's layers, and what part of the full "
        "model's they are",
    ),
    _cost("FLOPs", lambda row: sum(row.flops.values()), operations,
          "operations a question: tower, prefill and decode"),
    _cost("KV cache", lambda row: row.kv_bytes, size, "bytes of keys and values a question"),
    _cost("first token", lambda row: row.first_token, seconds, "seconds to the first token"),
    _cost("total", lambda row: row.total, seconds, "seconds a question"),
    _cost("own", lambda row: row.own, seconds, "seconds that the systems themselves take"),
    _cost("memory", lambda row: row.memory, size, "the most that one question took"),
    Column("failures", _failures, "questions that failed; each counts as a wrong answer"),
]  # fmt: skip
