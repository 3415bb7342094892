"""What a search found, with its figures on the items that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparsight.core.plan import Plan
from sparsight.tune.figures import Figures
from sparsight.tune.goals import Goal
from sparsight.tune.rows import Row
from sparsight.tune.trials import Tried

_SURE = 1.645  # standard errors: one chance in twenty, one-sided
_WAVER = 0.05  # by which a mean or a median may be above its limit on other items


@dataclass(frozen=True)
class Final:
    """A plan on the held-out items.

    label     its name in tables, unique
    tried     its trial; None for what is only held beside it
    row       as in a comparison, with intervals and the paired test against the plain model
    figures   of the same records, as the goal reads them
    """

    label: str
    tried: Tried | None
    plan: Plan
    row: Row
    figures: Figures


@dataclass(frozen=True)
class Outcome:
    """The end of a search.

    satisfied   whether the chosen plan satisfies the goal on the items it was tuned on
    chosen      the best plan; where nothing satisfies the goal, the one that comes nearest
    single      the best plan of one system alone; None where there was none
    front       the plans that no other beat in accuracy and cost at once, the cheapest first
    beside      baselines at the chosen plan's cost
    impossible  what could not be held beside it, and why
    """

    goal: Goal
    tried: Sequence[Tried]
    satisfied: bool
    plain: Final
    chosen: Final
    single: Final | None
    front: Sequence[Final]
    beside: Sequence[Final]
    impossible: Sequence[str] = ()

    @property
    def refuted(self) -> bool:
        """Whether the held-out items say that the chosen plan does not satisfy the goal: its
        accuracy is below it beyond chance, or a limit is broken."""
        found = self.chosen.figures
        overs = self.goal.overs(found, caution=-_SURE)
        waver = {item.name: 0.0 if item.of_every else _WAVER for item in self.goal.limits}
        return any(over > waver.get(name, 0.0) for name, over in overs.items())

    @property
    def confirmed(self) -> bool:
        """Whether the figures on the held-out items satisfy the goal as they stand."""
        return self.goal.holds(self.chosen.figures, caution=0.0)

    @property
    def good(self) -> bool:
        """Whether there is a plan to use."""
        return self.satisfied and not self.refuted

    @property
    def finals(self) -> list[Final]:
        """All that was asked the held-out items, each once: the plain model, the chosen plan,
        the best single system, the baselines, the front."""
        found = [self.plain, self.chosen, *filter(None, [self.single]), *self.beside, *self.front]
        return list({item.label: item for item in found}.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "goal": self.goal.words,
            "satisfied": self.satisfied,
            "confirmed": self.confirmed,
            "refuted": self.refuted,
            "chosen": self.chosen.label,
            "single": None if self.single is None else self.single.label,
            "front": [item.label for item in self.front],
            "plans": [_plain_final(item, self.goal) for item in self.finals],
            "trials": [_plain_trial(item, self.goal) for item in self.tried],
        }


def saved_plan(outcome: Outcome, frames: str | None) -> str:
    """The chosen plan as YAML, under a comment that says what it reached.

    frames: the selection that everything was asked with, where the plan names none.
    """
    plan, figures = outcome.chosen.plan, outcome.chosen.figures
    selects = any(callable(getattr(system, "select", None)) for system in plan.systems)
    if plan.frames is None and not selects:
        plan = replace(plan, frames=frames)
    told = [f"Found by sparsight tune: {outcome.goal.words}."]
    if not outcome.satisfied:
        told[0] = f"NOTHING SATISFIED THE GOAL ({outcome.goal.words}); this comes nearest."
    elif outcome.refuted:
        told.append("ON HELD-OUT QUESTIONS IT DOES NOT SATISFY THE GOAL.")
    told.append(f"On {figures.count} held-out questions it:")
    told += [f"  {line}" for line in outcome.goal.reached(figures)]
    return "".join(f"# {line}\n" for line in told) + plan.to_yaml()


def _plain_final(item: Final, goal: Goal) -> dict[str, Any]:
    return {
        "label": item.label,
        "trial": None if item.tried is None else item.tried.number,
        "held_out": {**_plain_figures(item.figures, goal), **item.row.as_dict()},
    }


def _plain_trial(item: Tried, goal: Goal) -> dict[str, Any]:
    return {
        "number": item.number,
        "origin": item.origin,
        "state": item.state,
        "note": item.note,
        "plan": item.plan.to_yaml(),
        "figures": None if item.figures is None else _plain_figures(item.figures, goal),
    }


def _plain_figures(item: Figures, goal: Goal) -> dict[str, Any]:
    return {
        "questions": item.count,
        "failures": item.failures,
        "accuracy": item.accuracy,
        "of_full_accuracy": item.kept if item.full_accuracy else None,
        "of_full_flops": item.cost,
        "flops_mean": item.flops,
        "visual_tokens_most": item.tokens,
        "kv_bytes_most": item.kv_bytes,
        "first_token_median": item.first_token,
        "misses": goal.overs(item, caution=0.0),
    }
