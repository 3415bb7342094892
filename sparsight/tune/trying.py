"""Trying plans: each is asked as few items as it takes to see that it is of no use.

Every plan is asked the same items in the same order, first 4, then 16, 32, 64 and so on. After
each part it is given up if it fails, costs too much, or is beyond hope by a paired sequential rule
(`sparsight.tune.evidence`), against the goal and against what was tried before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.core.errors import UserError, is_out_of_memory
from sparsight.core.plan import Plan
from sparsight.tune.evidence import hopeless, looks
from sparsight.tune.figures import Figures, best_guesses, figures
from sparsight.tune.goals import Goal
from sparsight.tune.space import Params
from sparsight.tune.trials import State, Tried, figures_of, is_single, plain, words_of

#: Asks a plan some items. Raises `UserError` where the plan does not run on the model, and
#: `TimeUpError` where there is no time left.
Ask = Callable[[Plan, Sequence[Item]], Sequence[Record]]

_FIRST = 4  # items after which a plan that fails, or costs too much, is given up
_SPARE = 0.2  # by which a mean or median may be above its limit while items are missing


class TimeUpError(Exception):
    """The time for the search is used up."""


class Trying:
    """Tries plans and notes what came of them in `tried`.

    Args:
        base: the plain model's plan.
        items: in the order in which they are asked.
        on_trial: told of each trial when it is over.
    """

    def __init__(
        self,
        ask: Ask,
        base: Plan,
        goal: Goal,
        items: Sequence[Item],
        on_trial: Callable[[Tried], None],
    ) -> None:
        assert items, "no items"
        self.ask, self.base, self.goal, self.items = ask, plain(base), goal, items
        self.on_trial = on_trial
        self.tried: list[Tried] = []
        self.full: list[Record] = []
        self._guesses = best_guesses(items)
        self._looks = looks(len(items))
        self._seen: dict[str, Tried] = {}

    def plain(self) -> Tried:
        """Ask the plain model all items, before anything else.

        Raises `UserError` where it answers nothing rightly, or not in time.
        """
        try:
            self.full = list(self.ask(self.base, self.items))
        except TimeUpError:
            raise UserError(
                "the time was up before the plain model had answered the questions: give more "
                "time, or fewer questions"
            ) from None
        found = figures(self.full, self.full, self._guesses)
        if not any(found.hits):
            reasons = {item.error for item in self.full if item.error is not None}
            why = f" ({sorted(reasons)[0]})" if reasons else ""
            raise UserError(
                f"the plain model answers none of {found.count} questions rightly{why}: "
                "there is nothing to keep"
            )
        return self._note(Tried(0, "plain", {}, self.base, "done", "", found))

    def once(self, plan: Plan, origin: str, params: Params) -> Tried:
        """Try a plan, unless it was tried before. Raises `UserError` where it does not run."""
        known = self._seen.get(plan.to_yaml())
        if known is not None:
            return known
        try:
            state, note, found = self._asked(plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return self.refuse(f"{words_of(plan)}: out of memory", origin, params)
        return self._note(Tried(len(self.tried), origin, params, plan, state, note, found))

    def refuse(self, why: str, origin: str, params: Params) -> Tried:
        """Note a plan that does not run."""
        return self._note(Tried(len(self.tried), origin, params, self.base, "refused", why, None))

    def _note(self, item: Tried) -> Tried:
        if item.figures is not None:
            self._seen[item.plan.to_yaml()] = item
        self.tried.append(item)
        self.on_trial(item)
        return item

    def _asked(self, plan: Plan) -> tuple[State, str, Figures]:
        """Ask a plan more and more items, as long as there is hope for it."""
        records: list[Record] = []
        for upto in dict.fromkeys([min(_FIRST, len(self.items)), *self._looks]):
            records += self.ask(plan, self.items[len(records) : upto])
            found = figures(records, self.full[:upto], self._guesses[:upto])
            if found.failures == found.count:
                return "stopped", f"fails: {records[0].error}", found
            if upto == len(self.items):
                break
            note = self._too_dear(found)
            if not note and upto in self._looks:
                note = self._beyond_hope(found, is_single(plan, self.base))
            if note:
                return "stopped", note, found
        return "done", "", found

    def _too_dear(self, found: Figures) -> str:
        """Why a plan costs too much to serve the goal, from its first items; "" if it may not."""
        early = found.count < self._looks[0]  # too few for a mean or a median
        for limit in self.goal.limits:
            spare = 0.0 if limit.of_every else math.inf if early else _SPARE
            if limit.over(found) > spare:
                return f"{limit.name[2:]} {limit.words(limit.value(found))}"
        only_cheap = self.goal.keep_accuracy is not None and not self.goal.limits
        return "costs more than the plain model" if only_cheap and found.cost > 1 else ""

    def _beyond_hope(self, found: Figures, single: bool) -> str:
        """Why a plan will not be the best nor on the front, from its first items; "" if it may.

        A single system is held against single systems and the plain model alone.
        """
        times, share = len(self._looks), self.goal.keep_accuracy
        if share is not None and hopeless(found.hits, found.full_hits, share, times):
            return "loses too much accuracy"
        for item in self.tried:
            if item.state != "done" or (single and len(item.plan.systems) > 1):
                continue
            other = figures_of(item)
            beaten = self.goal.cost(other) <= self.goal.cost(found) or (
                self.goal.accuracy_counts and self.goal.holds(other)
            )
            if beaten and hopeless(found.hits, other.hits[: found.count], 1.0, times):
                return f"trial {item.number} answers more for less"
        return ""
