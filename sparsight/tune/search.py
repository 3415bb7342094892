"""The search for the best plan: which plans are tried, in what order, and when one is given up.

The plain model is asked all items. Then each system is tried alone at its usual settings; the
budgets of the most promising ones are brought to where the goal is just satisfied; the best ones of
different slots are put together. From then on Optuna's sampler proposes (accuracy and cost are two
objectives, the goal a constraint), in turn with neighbours of the best plan and with the best
systems alone, so that the comparison with single systems is fair.

A search is a pure function of its space, goal, seed and the answers it gets. What was answered once
comes from a store, so a search that was interrupted is run anew: it goes through what it had in no
time, and on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, count
from typing import TYPE_CHECKING

from sparsight.bench.item import Item
from sparsight.core.errors import UserError
from sparsight.tune.goals import Goal, gain
from sparsight.tune.sampling import new_study
from sparsight.tune.space import NONE, Params, Space
from sparsight.tune.trials import Tried, best, figures_of, is_single, slope
from sparsight.tune.trying import Ask, TimeUpError, Trying

if TYPE_CHECKING:
    import optuna

_BEST = 3  # single systems whose budgets are looked into
_STEPS = 4  # budgets of each
_NEAR = 1.1  # two budgets whose ratio is less are as good as one
_TOGETHER = 8  # plans that are put together of single systems
_MOVES = (0.7, 1.4)  # factors by which a number of the best plan is moved
_IDLE = 50  # refused or repeated proposals in a row after which nothing new is left
_REFUSED = 10.0  # what a plan that does not run misses the goal by, for the sampler


class Search:
    """A search over a space; `tried` and `time_is_up` tell how it went.

    Args:
        items: those to tune on, in the order in which they are asked.
        on_trial: told of each trial when it is over.

    Raises `UserError` where Optuna is not installed.
    """

    def __init__(
        self,
        ask: Ask,
        space: Space,
        goal: Goal,
        items: Sequence[Item],
        *,
        seed: int = 0,
        on_trial: Callable[[Tried], None] = lambda tried: None,
    ) -> None:
        self.space, self.goal = space, goal
        self.time_is_up = False
        self._trying = Trying(ask, space.base, goal, items, on_trial)
        self._study = new_study(seed, ["maximize", "minimize"])

    @property
    def tried(self) -> list[Tried]:
        """The trials so far, the plain model first."""
        return self._trying.tried

    def run(self, trials: int) -> list[Tried]:
        """Try so many plans beside the plain model, or as many as there is time for.

        Plans that do not run on the model, and repetitions, do not count. Raises `UserError`
        where the plain model answers nothing rightly: no plan could be told from another.
        """
        self._trying.plain()
        self._try(self.space.empty(), "plain")  # known by now: for the sampler
        left, idle = trials, 0
        for params, origin in self._proposals():
            if left == 0 or idle == _IDLE:
                break
            try:
                fresh = self._try(params, origin)
            except TimeUpError:
                self.time_is_up = True
                break
            left, idle = (left - 1, 0) if fresh else (left, idle + 1)
        return self.tried

    # ---- what is tried -------------------------------------------------------------------------

    def _proposals(self) -> Iterator[tuple[Params, str]]:
        """Parameters and where they come from; those that are missing are the sampler's to choose.
        What comes later depends on what came of the earlier ones."""
        space = self.space
        for name in _in_turn([space.of_slot(slot) for slot in space.slots]):
            yield space.alone(name), "alone"
        if space.frames is not None:
            yield {**space.empty(), "frames": space.frames.most // 2}, "alone"
        for item in self._singles(slope)[:_BEST]:
            for _ in range(_STEPS):
                params = self._next_budget(_name(item))
                if params is None:
                    break
                yield params, "budget"
        yield from ((params, "together") for params in self._together())
        for turn in count():
            nearby = self._nearby(turn)
            yield ({}, "sampled") if nearby is None else (nearby, "nearby")
            yield {}, "sampled"
            alone = self._singles(self._order)[:_BEST]
            if alone and turn % 2:
                yield self._slots_of(alone[turn // 2 % len(alone)]), "single"

    def _order(self, item: Tried, goal: Goal) -> tuple[float, ...]:
        return goal.order(figures_of(item))

    def _alone(self, name: str) -> list[Tried]:
        """The trials of one system alone."""
        return [
            item
            for item in self.tried
            if item.figures is not None
            and is_single(item.plan, self.space.base)
            and _name(item) == name
        ]

    def _singles(self, key: Callable[[Tried, Goal], object]) -> list[Tried]:
        """The best trial of each system alone, the best ones first."""
        found = [
            item
            for item in self.tried
            if item.figures is not None and is_single(item.plan, self.space.base)
        ]
        found.sort(key=lambda item: (key(item, self.goal), item.number))
        of_system: dict[str, Tried] = {}
        for item in found:
            of_system.setdefault(_name(item), item)
        return list(of_system.values())

    def _next_budget(self, name: str) -> Params | None:
        """One system alone with another budget: between one that satisfies the goal and one that
        does not, else beyond the best one; None where nothing is left to try."""
        knob = self.space.budget(name)
        if knob is None:
            return None
        known: dict[float, Tried] = {}
        for item in self._alone(name):
            if not item.params.get(f"{name}.free"):
                known[float(item.params[f"{name}.{knob}"])] = item
        found, values = self.space.ranges[name][knob], sorted(known)
        holds = [self.goal.holds(figures_of(known[value])) for value in values]
        for low, high, left, right in zip(values, values[1:], holds, holds[1:], strict=False):
            if left != right and high > _NEAR * low:
                return self.space.alone(name, **{knob: found.at((low * high) ** 0.5)})
        middle = min(values, key=lambda value: self._order(known[value], self.goal))
        for end, factor in ((values[0], 0.5), (values[-1], 2.0)):
            beyond = found.at(factor * middle)
            if middle == end and beyond not in known:
                return self.space.alone(name, **{knob: beyond})
        return None

    def _together(self) -> list[Params]:
        """The best single trials of different slots, and fewer frames, in pairs and all at once."""
        parts: list[tuple[frozenset[str], Params]] = []
        taken: set[str] = set()
        for item in self._singles(self._order):
            slots = self.space.systems[_name(item)]
            if not taken & set(slots):
                taken |= set(slots)
                parts.append((frozenset(slots), _own(item, slots[0])))
        if self.space.frames is not None and "select" not in taken:
            parts.append((frozenset(), {"frames": self.space.frames.most // 2}))
        pairs = list(combinations(parts, 2))[: _TOGETHER - 1]
        groups = [*pairs, tuple(parts)] if len(parts) > 2 else pairs
        made = []
        for group in groups:
            params = self.space.empty()
            for _, own in group:
                params |= own
            made.append(params)
        return made

    def _nearby(self, turn: int) -> Params | None:
        """The best plan so far with one of its numbers moved; another one each turn."""
        item = best(self.tried, self.goal)
        assert item is not None, "the plain model is always tried"
        moves = []
        for key, value in item.params.items():
            found = self.space.range_of(key)
            if found is not None and found.numeric:
                moves += [(key, found.at(value * factor)) for factor in _MOVES]
        moves = [(key, value) for key, value in moves if value != item.params[key]]
        if not moves:
            return None
        key, value = moves[turn % len(moves)]
        return {**item.params, key: value}

    def _slots_of(self, item: Tried) -> Params:
        """A trial's systems, with their knobs left to the sampler."""
        kept = (*self.space.slots, "frames")
        return {name: value for name, value in item.params.items() if name in kept}

    # ---- one trial -----------------------------------------------------------------------------

    def _try(self, given: Params, origin: str) -> bool:
        """Try what `given` and the sampler say; False where nothing new was asked."""
        if given:
            self._study.enqueue_trial(given)
        trial = self._study.ask()
        params = self.space.suggest(trial)
        before = len(self.tried)
        try:
            item = self._trying.once(self.space.plan(params), origin, params)
        except UserError as error:
            item = self._trying.refuse(str(error), origin, params)
        self._tell(trial, item)
        return len(self.tried) > before and item.figures is not None

    def _tell(self, trial: optuna.Trial, item: Tried) -> None:
        """Let the sampler know what came of a trial."""
        import optuna

        if item.figures is None:
            trial.set_constraint("runs", _REFUSED)
        else:
            overs = self.goal.overs(item.figures).values()
            trial.set_constraint("goal", max([-gain(item.figures), *overs]))
        if item.state == "done":
            self._study.tell(trial, self.goal.objectives(figures_of(item)))
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _in_turn(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first of each list, then the second of each, and so on."""
    for place in range(max(map(len, lists))):
        yield from (names[place] for names in lists if place < len(names))


def _name(item: Tried) -> str:
    return str(item.plan.systems[0].system_name)


def _own(item: Tried, slot: str) -> Params:
    """The parameters of a single trial that are its system's."""
    name = _name(item)
    return {
        key: value
        for key, value in item.params.items()
        if (key == slot and value != NONE) or key.startswith(f"{name}.")
    }
