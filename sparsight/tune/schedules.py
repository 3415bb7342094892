"""The searches of the G-Search paper: how many visual tokens each layer of the LLM needs.

G-Search goes through the layers from the first to the last and finds for each the smallest number
of tokens with which, when all deeper layers get no more, the accuracy is still kept. P-Sigmoid
takes a budget of tokens and finds the sigmoid over the depth that answers best with it, by Bayesian
optimisation. Both are carried out by the system `gsearch`. arXiv:2412.00556; no official code was
found.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from sparsight.bench.item import Item
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import build
from sparsight.ops.schedule import sigmoid_of_mean
from sparsight.tune.goals import Goal
from sparsight.tune.sampling import new_study
from sparsight.tune.trials import Tried, figures_of
from sparsight.tune.trying import Ask, TimeUpError, Trying

STEPS = 16  # shares that are tried are multiples of one sixteenth of the tokens
_STEEPNESS = (0.1, 10.0)  # per layer
_STARTS = ((0.5, 0.25), (5.0, 0.0), (0.15, 0.5))  # steepness, and floor as a share of the highest
_SIGMOIDS = 40  # sigmoids that are tried
_FITS = [round(0.1 * 1.25**power, 3) for power in range(21)]  # steepnesses that a fit tries


def g_search(
    feasible: Callable[[tuple[int, ...]], bool], layers: int, tokens: int, least: int = 0
) -> list[int]:
    """The smallest schedule that is feasible, layer by layer.

    Args:
        feasible: whether a schedule (a number for each layer, never rising) keeps the accuracy;
            `tokens` in every layer does.
        layers: L; the first one always has all the tokens.
        tokens: of a layer that has them all.
        least: of any layer.

    Returns L numbers. Exact where each layer needs a number of its own, none more than the one
    before; takes at most L * ceil(log2(tokens + 1)) questions to `feasible`.
    """
    found = [tokens]
    while len(found) < layers:
        low, high = least, found[-1]
        while low < high:
            middle = (low + high) // 2
            if feasible((*found, *[middle] * (layers - len(found)))):
                high = middle
            else:
                low = middle + 1
        found.append(low)
    return found


def fit_sigmoid(shares: Sequence[float]) -> tuple[float, float]:
    """Steepness and floor of the sigmoid of the same mean that lies nearest to a schedule."""
    depth, mean = len(shares), sum(shares) / len(shares)
    best, nearest = (_FITS[0], 0.0), float("inf")
    for steepness in _FITS:
        for part in range(11):
            floor = part / 10 * highest_floor(depth, mean)
            fitted = sigmoid_of_mean(depth, mean, steepness, floor)
            error = sum((a - b) ** 2 for a, b in zip(fitted, shares, strict=True))
            if error < nearest:
                best, nearest = (steepness, floor), error
    return best


def highest_floor(depth: int, mean: float) -> float:
    """The floor of a schedule of this mean that falls at once: the first layer has everything."""
    return max(0.0, (mean * depth - 1) / (depth - 1))


def check_goal(goal: Goal) -> None:
    """Refuse a goal that neither G-Search nor P-Sigmoid serves."""
    others = {limit.name for limit in goal.limits} - {"--max-visual-tokens"}
    if others or goal == Goal():
        raise UserError(
            "--search gsearch finds a schedule that keeps an accuracy, or one within a number of "
            "tokens: give --keep-accuracy, --max-visual-tokens, or both, and no other goal"
        )


class ScheduleSearch:
    """G-Search where an accuracy is to be kept, P-Sigmoid where tokens are limited; where both
    are asked for, P-Sigmoid only if what G-Search finds has too many, and starting from it.

    Args:
        depth: layers of the LLM.
        items, on_trial: as in `Search`.

    Raises `UserError` for a goal that neither of them serves.
    """

    def __init__(
        self,
        ask: Ask,
        base: Plan,
        depth: int,
        goal: Goal,
        items: Sequence[Item],
        *,
        seed: int = 0,
        on_trial: Callable[[Tried], None] = lambda tried: None,
    ) -> None:
        check_goal(goal)
        self.goal, self.depth, self.seed = goal, depth, seed
        self.time_is_up = False
        self._trying = Trying(ask, base, goal, items, on_trial)

    @property
    def tried(self) -> list[Tried]:
        """The trials so far, the plain model first."""
        return self._trying.tried

    def run(self, trials: int) -> list[Tried]:
        """Search; at most so many schedules are tried, or as many as there is time for."""
        whole = figures_of(self._trying.plain()).tokens
        if self.goal.max_visual_tokens is not None:
            self._check_budget(self.goal.max_visual_tokens, whole)
        self._left = trials
        shares = None
        try:
            if self.goal.keep_accuracy is not None:
                shares = self._g_search()
            if self.goal.max_visual_tokens is not None and not self._satisfied():
                self._p_sigmoid(self.goal.max_visual_tokens, shares)
        except _Enough:
            pass
        except TimeUpError:
            self.time_is_up = True
        return self.tried

    def _satisfied(self) -> bool:
        done = [item for item in self.tried if item.state == "done"]
        return any(self.goal.holds(figures_of(item)) for item in done)

    def _g_search(self) -> list[float]:
        """The shares of the schedule that G-Search finds."""
        accuracy = Goal(keep_accuracy=self.goal.keep_accuracy)

        def feasible(counts: tuple[int, ...]) -> bool:
            item = self._try("g-search", schedule=tuple(count / STEPS for count in counts))
            return item.state == "done" and accuracy.holds(figures_of(item))

        self._trying.goal = accuracy  # a schedule on the way may have too many tokens
        try:
            counts = g_search(feasible, self.depth, STEPS)
        finally:
            self._trying.goal = self.goal
        return [count / STEPS for count in counts]

    def _p_sigmoid(self, tokens: int, shares: Sequence[float] | None) -> None:
        """Try sigmoids of so many tokens, mean over the layers."""
        mean = self._mean(tokens)
        highest = highest_floor(self.depth, mean)
        starts = list(_STARTS)
        if shares is not None and highest > 0:
            steepness, floor = fit_sigmoid(shares)
            starts.insert(0, (steepness, min(1.0, floor / highest)))
        study = new_study(self.seed, ["maximize"])
        for steepness, part in starts:
            study.enqueue_trial({"steepness": steepness, "floor": part})
        for _ in range(_SIGMOIDS):
            trial = study.ask()
            steepness = trial.suggest_float("steepness", *_STEEPNESS, log=True)
            part = trial.suggest_float("floor", 0, 1)
            # Rounded up, the floor would leave the mean no room.
            floor = math.floor(1e4 * part * highest) / 1e4
            item = self._try("p-sigmoid", keep=mean, steepness=_short(steepness), floor=floor)
            study.tell(trial, figures_of(item).accuracy)

    def _mean(self, tokens: int) -> float:
        """The mean share at which no item has more than so many tokens, rounding included; found
        by one trial, since tokens that may not be pruned are there in every layer."""
        whole = figures_of(self.tried[0]).tokens
        share = min(1.0, tokens / whole)
        if share == 1:
            return 1.0
        found = figures_of(self._try("p-sigmoid", keep=_below(share), floor=0.0))
        all_of_it = max(record.visual_mean for record in self._trying.full[: found.count])
        fixed = (found.tokens - share * all_of_it) / (1 - share)
        share = (tokens - fixed - 0.5) / (whole - fixed)
        return max(_below(share), math.ceil(1e4 / self.depth) / 1e4)

    def _check_budget(self, tokens: int, whole: float) -> None:
        if tokens * self.depth <= whole:
            raise UserError(
                f"--max-visual-tokens {tokens} are too few for gsearch: the first of "
                f"{self.depth} layers has all {whole:,.0f}, which is {whole / self.depth:,.0f} on "
                "the mean"
            )

    def _try(self, origin: str, **knobs: object) -> Tried:
        """Try a schedule; one that was tried before does not count."""
        plan = dataclasses.replace(self._trying.base, systems=(build("gsearch", knobs),))
        if self._left == 0:
            raise _Enough
        before = len(self.tried)
        item = self._trying.once(plan, origin, knobs)
        self._left -= len(self.tried) - before
        return item


class _Enough(Exception):  # noqa: N818  (not an error)
    """As many schedules were tried as were asked for."""


def _below(share: float) -> float:
    """A share with four digits, not above it."""
    return math.floor(1e4 * share) / 1e4


def _short(value: float) -> float:
    return float(f"{value:.3g}")
