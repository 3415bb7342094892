"""What a search has tried: one entry a plan, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sparsight.core.plan import Plan
from sparsight.core.registry import entry
from sparsight.tune.figures import Figures
from sparsight.tune.front import unbeaten
from sparsight.tune.goals import Goal
from sparsight.tune.space import Params

_LISTED = 8  # values of a list that are told

#: done: asked all items; stopped: beyond hope after some of them; refused: does not run
State = Literal["done", "stopped", "refused"]


@dataclass(frozen=True)
class Tried:
    """One trial.

    number    its place in the search, from 0: the plain model
    origin    where it came from: "plain", "alone", "budget", "together", "nearby", "single",
              "sampled", "g-search" or "p-sigmoid"
    note      why it was stopped or refused
    figures   on the items it was asked; None for one that was refused
    """

    number: int
    origin: str
    params: Params
    plan: Plan
    state: State
    note: str
    figures: Figures | None


def words_of(plan: Plan, base: Plan | None = None) -> str:
    """A plan in a line: its systems with the knobs that are not at their defaults."""
    parts = [_words(system) for system in plan.systems]
    if plan.frames is not None and (base is None or plan.frames != base.frames):
        parts.append(f"frames {plan.frames}")
    return " + ".join(parts) or "the plain model"


def _words(system: object) -> str:
    known = entry(system.system_name)  # type: ignore[attr-defined]
    told = []
    for name, knob in known.knobs.items():
        value = getattr(system, name)
        if value != knob.default or knob.type == "budget" or name == "keep":
            told.append(f"{name}={_shown(value)}")
    return " ".join([known.name, *told])


def _shown(value: object) -> str:
    """A value as on the command line; of a long list the beginning."""
    if isinstance(value, tuple):
        some = ",".join(map(_shown, value[:_LISTED]))
        return some + (f",... ({len(value)})" if len(value) > _LISTED else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def is_single(plan: Plan, base: Plan) -> bool:
    """Whether one system is on the plain model and nothing else is different."""
    return len(plan.systems) == 1 and plan.frames == base.frames


def best(tried: Sequence[Tried], goal: Goal) -> Tried | None:
    """The plan that serves a goal best. Only one that was asked everything can satisfy it; where
    none does, the one that comes nearest, even if it was stopped on the way."""
    done = [item for item in tried if item.state == "done" and goal.holds(figures_of(item))]
    asked = done or [item for item in tried if item.figures is not None]
    return min(asked, key=lambda item: (goal.order(figures_of(item)), item.number), default=None)


def front(tried: Sequence[Tried], goal: Goal) -> list[Tried]:
    """The plans that no other beats in accuracy and cost at once, the cheapest first: of those
    that were asked everything, or of all where none of these satisfies the goal."""
    done = [item for item in tried if item.state == "done"]
    if not any(goal.holds(figures_of(item)) for item in done):
        done = [item for item in tried if item.figures is not None]
    done.sort(key=lambda item: item.number)
    return [done[at] for at in unbeaten([(goal.cost(figures_of(i)), _accuracy(i)) for i in done])]


def slope(item: Tried, goal: Goal) -> float:
    """Accuracy lost for what is saved: what ranks plans whose budgets differ. A plan that saves
    nothing ranks last."""
    found = figures_of(item)
    saved = 1 - goal.cost(found)
    lost = found.full_accuracy - found.accuracy + 1 / found.count
    return max(lost, 0.5 / found.count) / saved if saved > 0 else float("inf")


def figures_of(item: Tried) -> Figures:
    """The figures of a trial that was asked something."""
    assert item.figures is not None, item.number
    return item.figures


def _accuracy(item: Tried) -> float:
    return figures_of(item).accuracy


def plain(base: Plan) -> Plan:
    """The plan without systems."""
    return dataclasses.replace(base, systems=())
