"""What a reply cost, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from sparsight.core.reply import Reply


def profile_table(reply: Reply) -> Table:
    """Stages, tokens, FLOPs and key-value bytes of one reply."""
    from sparsight.measure.costs import cost_rows, time_rows

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in time_rows(reply):
        table.add_row(*row)
    table.add_row()
    for row in cost_rows(reply):
        table.add_row(*row)
    return table
