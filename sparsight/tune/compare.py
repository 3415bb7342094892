"""Systems, budgets and plans on one model, beside what anybody could do at the same cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.runner import ANSWER, ask_all
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan, parse_system
from sparsight.core.registry import Budget, entry
from sparsight.measure.memory import spare_bytes
from sparsight.tune.equal import Equal, Shares, part_of_full
from sparsight.tune.rows import FULL, Role, Row, row_of
from sparsight.tune.shelf import remembered

if TYPE_CHECKING:
    from sparsight.bench.store import Store
    from sparsight.vlm.pipeline import VLM

#: What a system has to beat at equal cost, beside the full model.
BASELINES = ("random", "uniform", "pool", "downsample")
_WHOLE = 0.999  # who spends more than this part of the full model has no equal but that one


@dataclass(frozen=True)
class Entrant:
    """A plan that is compared, under the name it has in the table."""

    label: str
    plan: Plan

    @property
    def role(self) -> Role:
        groups = {entry(system.system_name).group for system in self.plan.systems}
        return "baseline" if groups == {"baseline"} else "system"


@dataclass(frozen=True)
class Impossible:
    """A plan that a model cannot follow, or a baseline that cannot be as cheap, and why."""

    model: str
    label: str
    reason: str

    def __str__(self) -> str:
        return f"{self.label} is not possible on {self.model}: {self.reason}"


@dataclass
class Comparison:
    """What came of one model.

    rows        the full model first, each system followed by its baselines
    records     label -> what the row sums up, in the items' order
    vlms        label -> the model under that plan
    impossible  what was left out
    """

    rows: list[Row] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    vlms: dict[str, VLM] = field(default_factory=dict)
    impossible: list[Impossible] = field(default_factory=list)


class Watch(Protocol):
    """Told how a comparison goes on."""

    def impossible(self, found: Impossible) -> None:
        """A plan is left out."""

    def begins(self, model: str, label: str, items: int) -> None:
        """A plan is asked so many items."""

    def recorded(self, record: Record) -> None:
        """One of them was answered, now or in a run before."""

    def summed(self, row: Row) -> None:
        """All of them were."""


class _Nobody:
    """A watch that does not care."""

    def impossible(self, found: Impossible) -> None:
        pass

    def begins(self, model: str, label: str, items: int) -> None:
        pass

    def recorded(self, record: Record) -> None:
        pass

    def summed(self, row: Row) -> None:
        pass


def entrants(
    systems: Sequence[str],
    keeps: Sequence[Budget],
    plans: Sequence[tuple[str, Plan]] = (),
    *,
    seed: int = 0,
) -> list[Entrant]:
    """What is to be compared: every system at every budget, then the plans.

    Args:
        systems: "name" or "name:knob=value,...". One that has no `keep`, or is given with one,
            comes once.
        keeps: shares or counts for those that have it.
        plans: labels and plans; their frames stay, their model does not matter.

    Raises `UserError` for an unknown system or knob, and for a budget that a system does not take.
    """
    found: list[Entrant] = []
    for text in systems:
        knobs = text.partition(":")[2]
        takes = "keep" in entry(parse_system(text).system_name).knobs
        if takes and re.search(r"(^|,)\s*keep\s*=", knobs) is None:
            texts = [f"{text}{',' if knobs else ':'}keep={keep}" for keep in keeps]
        else:
            texts = [text]
        found += [Entrant(each, Plan(systems=(parse_system(each),), seed=seed)) for each in texts]
    found += [Entrant(label, plan) for label, plan in plans]
    return found


def compare(
    vlm: VLM,
    field: Sequence[Entrant],
    items: Sequence[Item],
    *,
    store: Store | None = None,
    equal: Equal = "tokens",
    baselines: bool = True,
    batch: int = 1,
    max_tokens: int = ANSWER,
    seed: int = 0,
    data: str = "",
    watch: Watch | None = None,
) -> Comparison:
    """Ask a model every item as it is, under every plan, and under baselines of equal cost.

    Args:
        vlm: the model; its own plan does not matter.
        field: what is compared; plans that are the same come once.
        items: questions, the same for all.
        store: where records are kept, so that a run that was stopped goes on where it was.
        equal: what of a plan its baselines are made to spend as well.
        baselines: whether to run them; those that are the same come once.
        batch, max_tokens, data: as in `ask_all`.
        seed: of the full model and the baselines.
        watch: told of what goes on.

    Plans that the model cannot follow are told before anything is asked, and left out. What the
    tower makes of the media is remembered from plan to plan (`VLM.remembering`).
    """
    vlm, items = vlm.remembering(spare_bytes()), remembered(items, spare_bytes())
    asking = partial(ask_all, store=store, batch=batch, max_tokens=max_tokens, data=data, warm=True)
    contest = _Contest(vlm, items, asking, watch or _Nobody(), seed)
    possible = contest.possible(field)
    contest.ask(FULL, vlm.planned(Plan(seed=seed)), "full")
    shares = contest.shares(equal)
    for entrant, planned in possible:
        row = contest.ask(entrant.label, planned, entrant.role)
        if baselines and row.role != "baseline":
            contest.beside(row, shares)
    return contest.done


class _Contest:
    """One model, its items, and what has come of them so far."""

    def __init__(
        self,
        vlm: VLM,
        items: Sequence[Item],
        asking: Callable[..., list[Record]],
        watch: Watch,
        seed: int,
    ) -> None:
        self.vlm, self.items, self.asking, self.watch = vlm, items, asking, watch
        self.seed, self.model = seed, vlm.plan.model
        self.done = Comparison()

    def possible(self, field: Sequence[Entrant]) -> list[tuple[Entrant, VLM]]:
        """The plans that the model can follow; of equal ones the first."""
        found: dict[str, tuple[Entrant, VLM]] = {}
        for entrant in field:
            try:
                planned = self.vlm.planned(entrant.plan)
            except UserError as error:
                self._leave_out(entrant.label, str(error))
                continue
            found.setdefault(planned.plan.to_yaml(), (entrant, planned))
        return list(found.values())

    def _leave_out(self, label: str, reason: str) -> None:
        self.done.impossible.append(Impossible(self.model, label, reason))
        self.watch.impossible(self.done.impossible[-1])

    def ask(self, label: str, planned: VLM, role: Role) -> Row:
        """Ask all items under a plan; one that was asked before is not asked again."""
        done = self.done
        if label in done.records:
            assert done.vlms[label].plan == planned.plan, f"two plans called {label}"
            return next(row for row in done.rows if row.label == label)
        self.watch.begins(self.model, label, len(self.items))
        records = self.asking(planned, self.items, on_record=self.watch.recorded)
        full = done.records.get(FULL, records)
        row = row_of(records, full, model=self.model, label=label, plan=planned.plan, role=role)
        done.records[label], done.vlms[label] = records, planned
        done.rows.append(row)
        self.watch.summed(row)
        return row

    def shares(self, equal: Equal) -> Shares:
        return Shares(self.done.vlms[FULL], self.items, self.done.records[FULL], equal)

    def beside(self, row: Row, shares: Shares) -> None:
        """Ask the baselines at the cost of a row, and note in the row which they are."""
        records = self.done.records
        part = part_of_full(records[row.label], records[FULL], shares.equal)
        if part is None or part > _WHOLE:
            return
        labels = []
        for name in BASELINES:
            share = shares.share(name, part)
            if share is None:
                reason = f"its smallest share still costs more than {row.label}"
                self._leave_out(f"{name} beside {row.label}", reason)
                continue
            label = f"{name}:keep={share}"
            if name == "random" and self.seed:
                label += f",seed={self.seed}"
            plan = Plan(systems=(parse_system(label),), seed=self.seed)
            self.ask(label, self.vlm.planned(plan), "baseline")
            labels.append(label)
        place = self.done.rows.index(row)
        self.done.rows[place] = replace(row, beside=tuple(labels))
