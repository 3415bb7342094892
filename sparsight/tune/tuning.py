"""Tuning from end to end: items in, the best plan and everything that was measured out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.bench.runner import ANSWER, ask_all, run_of
from sparsight.bench.store import Store
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.measure.memory import spare_bytes
from sparsight.media import load
from sparsight.tune import compare
from sparsight.tune.clock import Clock
from sparsight.tune.declared import depth_of, describe, space_for
from sparsight.tune.finals import PLANS, finals
from sparsight.tune.goals import Goal
from sparsight.tune.halves import Halves, halves, kinds_of, selection_of
from sparsight.tune.heads import measure, skipped
from sparsight.tune.outcome import Outcome
from sparsight.tune.schedules import ScheduleSearch, check_goal
from sparsight.tune.search import Search
from sparsight.tune.shelf import remembered
from sparsight.tune.space import Space
from sparsight.tune.trials import Tried
from sparsight.tune.trying import Ask, TimeUpError

if TYPE_CHECKING:
    from sparsight.tune.compare import Comparison
    from sparsight.vlm.pipeline import VLM

AnySearch = Search | ScheduleSearch

_HEADS = (1.0, 0.75, 0.5, 0.25)  # shares of the heads that go on looking at visual tokens
_HEADS_ON = 32  # items that heads are judged on
_MOST_RESERVE = 0.4  # of the time, for the held-out items


class Watch(compare.Watch, Protocol):
    """Told how tuning goes on: of the search first, then of the held-out items as a comparison."""

    def ready(self, space: Space, cut: Halves) -> None:
        """The space and the items are known."""

    def answered(self, record: Record) -> None:
        """A question was answered, now or in a run before."""

    def tried(self, item: Tried) -> None:
        """A trial is over."""

    def ended(self, search: AnySearch) -> None:
        """The search is over; the held-out items are next."""


@dataclass(frozen=True)
class Request:
    """What to tune for.

    goal        what the best plan is
    trials      plans to try beside the plain model
    time        seconds for everything, over all runs; None: as many as it needs
    systems     names of the systems to search; None: all
    most        items in all, the held-out half included
    data        what the items are, in a word
    search      "plans": systems across slots; "gsearch": a schedule for that system alone
    """

    goal: Goal
    trials: int
    time: float | None = None
    systems: Sequence[str] | None = None
    most: int = 256
    seed: int = 0
    max_tokens: int = ANSWER
    data: str = ""
    search: Literal["plans", "gsearch"] = "plans"


def tune(
    vlm: VLM, items: Sequence[Item], request: Request, out: Path, watch: Watch
) -> tuple[Outcome, Comparison, Halves]:
    """Search the best plan of a model for some items, and measure it on items not searched on.

    Everything that is answered is kept in `out`; the same call again goes on where it was stopped,
    with the same result. What comes back beside the outcome is the comparison on the held-out
    items, and the two halves.

    Raises `UserError` for items, systems or settings that do not do, where `out` holds another
    search, where the plain model answers nothing rightly, and where the time is up before it has
    answered everything.
    """
    if request.search == "gsearch":
        check_goal(request.goal)
    vlm = vlm.remembering(spare_bytes())
    base = Plan(vlm.plan.model, seed=request.seed)
    kinds, frames = kinds_of(items, partial(load, limits=vlm.limits, policy=vlm.access))
    space = space_for(
        vlm.planned,
        base,
        depth=depth_of(vlm),
        kinds=kinds,
        selection=selection_of(items, vlm.family.default_frames, frames),
        names=request.systems if request.search == "plans" else ["gsearch"],
    )
    cut = halves(remembered(items, spare_bytes()), request.most, request.seed)
    _make(out)
    if "yopo" in space.systems:
        space = _with_heads(space, vlm.planned(base), cut.tune[:_HEADS_ON], out / "heads.json")
    _check_settings(out / "settings.json", _settings(request, space, cut))
    clock = Clock(out / "clock.json", request.time)
    watch.ready(space, cut)
    with Store(out / "records") as store:
        asking = _Asking(vlm, request, store, clock, watch)
        search = _search(request, asking, space, depth_of(vlm), cut.tune, watch)
        try:
            search.run(request.trials)
            watch.ended(search)
            outcome, comparison = finals(
                vlm, search.tried, request.goal, cut.held, store=store,
                max_tokens=request.max_tokens, data=request.data, watch=watch,
            )  # fmt: skip
        finally:
            clock.save()
    return outcome, comparison, cut


def _with_heads(space: Space, vlm: VLM, items: Sequence[Item], file: Path) -> Space:
    """The space with heads that `yopo` may skip, found by its calibration and kept in a file."""
    try:
        found = [tuple(heads) for heads in json.loads(file.read_text())]
    except FileNotFoundError:
        sums = measure(vlm, items)
        found = list(dict.fromkeys(skipped(sums, keep) for keep in _HEADS))
        _write(file, found)
    except (ValueError, TypeError):
        raise UserError(f"{file} is broken: give another folder") from None
    return space.with_choices("yopo", "skip", found)


def _search(
    request: Request,
    asking: Ask,
    space: Space,
    depth: int,
    items: Sequence[Item],
    watch: Watch,
) -> AnySearch:
    seed, goal = request.seed, request.goal
    if request.search == "plans":
        return Search(asking, space, goal, items, seed=seed, on_trial=watch.tried)
    return ScheduleSearch(asking, space.base, depth, goal, items, seed=seed, on_trial=watch.tried)


class _Asking:
    """Asks plans questions until the time is up; what the store has takes no time."""

    def __init__(
        self, vlm: VLM, request: Request, store: Store, clock: Clock, watch: Watch
    ) -> None:
        self.vlm, self.request, self.store, self.clock = vlm, request, store, clock
        self.watch = watch

    def __call__(self, plan: Plan, items: Sequence[Item]) -> list[Record]:
        planned = self.vlm.planned(plan)
        data, max_tokens = self.request.data, self.request.max_tokens
        known = self.store.records(run_of(planned, data=data, max_tokens=max_tokens).key)
        before = set(known)

        def on_record(record: Record) -> None:
            self.watch.answered(record)
            if record.item not in before and self.clock.is_up:
                raise TimeUpError

        if self.clock.is_up and not before.issuperset(item.id for item in items):
            raise TimeUpError
        records = ask_all(
            planned, items, store=self.store, max_tokens=max_tokens, data=data,
            on_record=on_record, warm=not plan.systems or self.request.goal.timed,
        )  # fmt: skip
        if not plan.systems and plan.frames is None:
            self._reserve(records)
        return records

    def _reserve(self, records: Sequence[Record]) -> None:
        """Leave time for the held-out items, by the seconds of the plain model on as many."""
        if self.clock.most is not None:
            needed = PLANS * sum(record.total for record in records)
            self.clock.reserve = min(needed, _MOST_RESERVE * self.clock.most)


def _settings(request: Request, space: Space, cut: Halves) -> dict[str, Any]:
    """What may not change while a search goes on; more trials and more time are welcome."""
    signs = "".join(item.sign for half in cut for item in half)
    return {
        "model": space.base.model,
        "search": request.search,
        "goal": dataclasses.asdict(request.goal),
        "seed": request.seed,
        "max_tokens": request.max_tokens,
        "questions": f"{sum(map(len, cut))}, {hashlib.sha256(signs.encode()).hexdigest()[:12]}",
        "space": json.loads(json.dumps(describe(space))),
    }


def _check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a new search; refuse to go on with other ones."""
    try:
        before = json.loads(file.read_text())
    except FileNotFoundError:
        _write(file, settings)
        return
    except ValueError:
        raise UserError(f"{file} is broken: give another folder") from None
    for name, value in settings.items():
        if before.get(name) != value:
            told = f" ({before.get(name)}, now {value})" if name in ("model", "seed") else ""
            raise UserError(
                f"{file.parent} holds a search with another {name}{told}: give another folder"
            )


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or "").lower()
        raise UserError(f"{out} cannot be made ({why}): give another folder") from None


def _write(file: Path, values: Any) -> None:
    """Write a file whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(values, indent=1) + "\n")
    part.replace(file)
