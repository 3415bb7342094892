"""What `sparsight tune` shows: a line a trial, how far it is, the final table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sparsight.cli.terminal import notes
from sparsight.cli.text import plain

if TYPE_CHECKING:
    from sparsight.bench.record import Record
    from sparsight.tune.compare import Impossible
    from sparsight.tune.goals import Goal
    from sparsight.tune.halves import Halves
    from sparsight.tune.outcome import Outcome
    from sparsight.tune.rows import Row
    from sparsight.tune.space import Space
    from sparsight.tune.trials import Tried
    from sparsight.tune.tuning import AnySearch


class Shown:
    """Shows tuning as it goes on: a moving line on a terminal, a line a trial in any case."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.console = notes()
        self.left_out: dict[str, str] = {}
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        off = not self.console.is_terminal
        self.progress = Progress(*columns, console=self.console, transient=True, disable=off)
        self.bar = self.progress.add_task("the plain model", total=None)
        self._answers = self._trials = 0
        self._best: Tried | None = None
        self._summed: set[str] = set()

    def __enter__(self) -> Shown:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def ready(self, space: Space, cut: Halves) -> None:
        self.left_out = space.left_out
        self._say(
            f"{len(cut.tune):,} questions to tune on, {len(cut.held):,} held out; "
            f"systems searched: {len(space.systems)}, left out: {len(space.left_out)}"
        )

    def answered(self, record: Record) -> None:
        self._answers += 1
        self.progress.update(
            self.bar, description=f"{self._trials} plans tried, {self._answers:,} answers"
        )

    def tried(self, item: Tried) -> None:
        from sparsight.tune.story import blindness
        from sparsight.tune.trials import best, figures_of, words_of

        self._trials += 1
        if item.figures is None:
            return
        found = item.figures
        kept = f"{found.accuracy:.1%} right of {found.count}, {self.goal.cost(found):.1%} of cost"
        mark = f" ({item.note})" if item.state == "stopped" else ""
        candidates = [item] if self._best is None else [self._best, item]
        self._best = best(candidates, self.goal)
        if self._best is item and self.goal.holds(figures_of(item)) and item.state == "done":
            mark = "  best so far"
        self._say(f"{item.number:3d}  {kept}  {words_of(item.plan)}{mark}")
        if item.number == 0 and found.blind:
            self._say(blindness(found))

    def ended(self, search: AnySearch) -> None:
        why = ": the time is up" if search.time_is_up else ""
        self._say(f"{len(search.tried)} plans tried{why}; now the held-out questions")

    def impossible(self, found: Impossible) -> None:
        self._say(str(found))

    def begins(self, model: str, label: str, items: int) -> None:
        self.progress.update(self.bar, description=f"held out: {plain(label)}".replace("[", r"\["))

    def recorded(self, record: Record) -> None:
        pass

    def summed(self, row: Row) -> None:
        if row.label in self._summed:
            return  # the plain model, beside the second lot of plans
        self._summed.add(row.label)
        self._say(f"held out  {row.accuracy:.1%} right of {row.count}  {row.label}")

    def _say(self, words: str) -> None:
        self.console.print(plain(words), markup=False, soft_wrap=True)


def finals_table(outcome: Outcome) -> Table:
    """Everything that was asked the held-out questions."""
    from sparsight.measure.costs import seconds, size

    table = Table(box=None, pad_edge=False)
    table.add_column("plan", overflow="fold")
    for heading in ("accuracy", "95 %", "to full", "p", "FLOPs", "tokens", "KV", "first token"):
        table.add_column(heading, justify="right")
    for item in outcome.finals:
        row = item.row
        low, high = row.interval95
        full = item is outcome.plain
        chosen = item.label == outcome.chosen.label
        cells = (
            f"{100 * row.accuracy:.1f}",
            f"{100 * low:.0f} to {100 * high:.0f}",
            "" if full else f"{100 * row.diff:+.1f}",
            "" if full else f"{row.p_value:.3f}",
            f"{item.figures.cost:.1%}",
            f"{row.visual_mean:,.0f}",
            size(row.kv_bytes),
            seconds(item.figures.first_token),
        )
        style = "bold" if chosen else "dim" if row.role == "baseline" else ""
        table.add_row(Text(plain(item.label)), *map(Text, cells), style=style)
    return table
