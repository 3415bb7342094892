"""What `sparsight compare` shows: how far it is, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sparsight.cli.terminal import notes
from sparsight.cli.text import plain

if TYPE_CHECKING:
    from sparsight.bench.record import Record
    from sparsight.tune.compare import Impossible
    from sparsight.tune.rows import Row


class Shown:
    """Shows a comparison as it goes on: a bar on a terminal, a line a finished row in any case."""

    def __init__(self) -> None:
        self.console = notes()
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        off = not self.console.is_terminal
        self.progress = Progress(*columns, console=self.console, transient=True, disable=off)
        self.bar = self.progress.add_task("", total=None)

    def __enter__(self) -> Shown:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def impossible(self, found: Impossible) -> None:
        self._say(str(found))

    def begins(self, model: str, label: str, items: int) -> None:
        self.progress.reset(self.bar, description=plain(label), total=items)

    def recorded(self, record: Record) -> None:
        self.progress.advance(self.bar)

    def summed(self, row: Row) -> None:
        failed = f", {row.failures} failed" if row.failures else ""
        tokens = f"{row.visual_mean:,.0f} tokens"
        self._say(f"{row.label}: {row.accuracy:.1%} of {row.count:,}, {tokens}{failed}")

    def _say(self, words: str) -> None:
        self.console.print(plain(words), markup=False, soft_wrap=True)


def results_table(rows: Sequence[Row]) -> Table:
    """How well each plan answered, and what it takes of tokens, operations and bytes."""
    from sparsight.measure.costs import operations, size

    headings = (
        "accuracy", "95 %", "to full", "95 %", "p", "same words", "tokens", "of full", "FLOPs",
        "KV", "memory", "failed",
    )  # fmt: skip
    table = _table(rows, headings)
    for row in rows:
        low, high = row.interval95
        less, more = row.diff_interval
        full = row.role == "full"
        cells = (
            f"{100 * row.accuracy:.1f}",
            f"{100 * low:.0f} to {100 * high:.0f}",
            "" if full else f"{100 * row.diff:+.1f}",
            "" if full else f"{100 * less:+.0f} to {100 * more:+.0f}",
            "" if full else _chance(row.p_value),
            f"{100 * row.loyalty:.0f}",
            f"{row.visual_mean:,.0f}",
            f"{row.share:.1%}",
            operations(sum(row.flops.values())),
            size(row.kv_bytes),
            size(row.memory),
            f"{row.failures:,}" if row.failures else "",
        )
        _add(table, rows, row, cells)
    return table


def seconds_table(rows: Sequence[Row]) -> Table:
    """Seconds a question: each stage, the first token, the whole, the systems' own."""
    from sparsight.measure.costs import seconds

    stages = list(dict.fromkeys(name for row in rows for name in row.stages))
    table = _table(rows, [*stages, "first token", "total", "own"])
    for row in rows:
        spent = [row.stages.get(name, 0.0) for name in stages]
        cells = [seconds(value) for value in (*spent, row.first_token, row.total, row.own)]
        _add(table, rows, row, cells)
    return table


def _table(rows: Sequence[Row], headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    if _several(rows):
        table.add_column("model")
    table.add_column("plan", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _add(table: Table, rows: Sequence[Row], row: Row, cells: Sequence[str]) -> None:
    model = [Text(plain(row.model))] if _several(rows) else []
    style = {"full": "bold", "baseline": "dim"}.get(row.role, "")
    table.add_row(*model, Text(plain(row.label)), *map(Text, cells), style=style)


def _several(rows: Sequence[Row]) -> bool:
    return len({row.model for row in rows}) > 1


def _chance(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
