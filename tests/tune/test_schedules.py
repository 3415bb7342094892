"""G-Search and P-Sigmoid: by their own rules, and on a pretended model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest

from sparsight.bench.item import Item
from sparsight.bench.record import Record
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.ops.schedule import sigmoid_of_mean
from sparsight.tune.goals import Goal
from sparsight.tune.schedules import STEPS, ScheduleSearch, fit_sigmoid, g_search, highest_floor
from sparsight.tune.trials import Tried, best, figures_of
from tests.tune.pretend import TOKENS, answers, items

DEPTH = 6


class Oracle:
    """Feasible where every layer has as many tokens as it needs."""

    def __init__(self, needs: Sequence[int]) -> None:
        self.needs, self.asked = needs, 0

    def __call__(self, schedule: Sequence[int]) -> bool:
        self.asked += 1
        assert all(low <= high for high, low in itertools.pairwise(schedule)), "it rises"
        return all(has >= need for has, need in zip(schedule, self.needs, strict=True))


@pytest.mark.parametrize(
    "needs", [(8, 8, 8, 8), (8, 5, 5, 1), (8, 7, 3, 0), (8, 0, 0, 0), (16, 9, 9, 4, 4, 1)]
)
def test_g_search_finds_what_each_layer_needs(needs: tuple[int, ...]):
    oracle = Oracle(needs)
    assert g_search(oracle, len(needs), needs[0]) == list(needs)
    assert oracle.asked <= len(needs) * math.ceil(math.log2(needs[0] + 1)) + 1


def test_g_search_equals_trying_every_schedule():
    layers, tokens = 4, 6
    falling = [
        (tokens, *rest)
        for rest in itertools.product(range(tokens + 1), repeat=layers - 1)
        if all(a >= b for a, b in itertools.pairwise((tokens, *rest)))
    ]
    for needs in falling[::7]:
        feasible = [schedule for schedule in falling if Oracle(needs)(schedule)]
        assert tuple(g_search(Oracle(needs), layers, tokens)) == min(feasible, key=sum)


def test_where_everything_is_feasible_the_least_is_left():
    assert g_search(lambda schedule: True, 5, 16, least=2) == [16, 2, 2, 2, 2]


def test_where_nothing_less_is_feasible_everything_stays():
    assert g_search(lambda schedule: False, 5, 16) == [16] * 5


@pytest.mark.parametrize(("steepness", "part"), [(0.6, 0.0), (2.0, 0.5), (10.0, 0.2)])
def test_a_sigmoid_is_fitted_to_a_schedule(steepness: float, part: float):
    floor = part * highest_floor(12, 0.4)
    shares = sigmoid_of_mean(12, 0.4, steepness, floor)
    fitted = sigmoid_of_mean(12, 0.4, *fit_sigmoid(shares))
    assert max(abs(a - b) for a, b in zip(fitted, shares, strict=True)) < 0.08


# On a pretended model, whose layers need ever fewer tokens

NEEDS = (1.0, 0.5, 0.5, 0.25, 0.25, 0.125)
FIXED = 8  # tokens that cannot be pruned


class Layered:
    """Loses accuracy by the tokens that layers are short of; flat schedules are the worse ones."""

    def __init__(self) -> None:
        self.plans: list[str] = []

    def __call__(self, plan: Plan, wanted: Sequence[Item]) -> list[Record]:
        [system] = plan.systems or [None]
        shares = [1.0] * DEPTH if system is None else system.shares(DEPTH)
        short = sum(max(0.0, need - share) for need, share in zip(NEEDS, shares, strict=True))
        tokens = FIXED + sum(round(share * TOKENS) for share in shares) / DEPTH
        text = plan.to_yaml()
        self.plans.append(text)
        found = []
        for item in wanted:
            right = answers(item.question, text, 0.9 - 0.5 * short)
            found.append(
                Record(
                    item.id,
                    item.task,
                    reply=item.answer if right else "",
                    right=right,
                    score=float(right),
                    visual_mean=tokens,
                    flops={"prefill": 1e6 * tokens},
                    total=1.0,
                    first_token=1.0,
                )
            )
        return found


def run(goal: Goal, trials: int = 1000, seed: int = 0, count: int = 64) -> ScheduleSearch:
    search = ScheduleSearch(Layered(), Plan(), DEPTH, goal, items(count), seed=seed)
    search.run(trials)
    return search


def chosen(search: ScheduleSearch) -> Tried:
    found = best(search.tried, search.goal)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def kept() -> ScheduleSearch:
    return run(Goal(keep_accuracy=0.95))


def test_the_schedule_keeps_the_accuracy_with_far_fewer_tokens(kept: ScheduleSearch):
    found = chosen(kept)
    assert kept.goal.holds(figures_of(found))
    assert figures_of(found).cost < 0.55
    schedule = found.plan.systems[0].schedule
    assert len(schedule) == DEPTH
    assert schedule[0] == 1
    assert all(low <= high for high, low in itertools.pairwise(schedule))


def test_few_schedules_are_tried(kept: ScheduleSearch):
    assert len(kept.tried) - 1 <= DEPTH * math.ceil(math.log2(STEPS + 1)) + 1
    assert {item.origin for item in kept.tried} == {"plain", "g-search"}


def test_the_best_schedule_comes_back_from_a_plan_file(kept: ScheduleSearch, tmp_path):
    plan = chosen(kept).plan
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan


def test_within_a_budget_every_sigmoid_costs_the_same_and_the_best_is_chosen():
    search = run(Goal(max_visual_tokens=160), trials=24)
    sigmoids = [item for item in search.tried if item.origin == "p-sigmoid"]
    assert len(sigmoids) == 24
    for item in sigmoids[1:]:  # the first one finds what cannot be pruned
        assert 0.985 * 160 < figures_of(item).tokens <= 160
    found = chosen(search)
    assert figures_of(found).accuracy == max(
        figures_of(item).accuracy for item in sigmoids if item.state == "done"
    )
    step = next(item for item in sigmoids if item.plan.systems[0].steepness == 5.0)
    assert figures_of(found).accuracy >= figures_of(step).accuracy


def test_with_both_goals_the_sigmoid_starts_from_what_g_search_found():
    search = run(Goal(keep_accuracy=0.8, max_visual_tokens=100), trials=60)
    origins = [item.origin for item in search.tried]
    assert origins.index("g-search") < origins.index("p-sigmoid")
    satisfied = run(Goal(keep_accuracy=0.9, max_visual_tokens=399), trials=60)
    assert "p-sigmoid" not in {item.origin for item in satisfied.tried}
    assert chosen(satisfied).origin == "g-search"


def test_a_seed_gives_the_same_schedules_and_trials_are_counted():
    goal = Goal(max_visual_tokens=160)
    first, again, fewer = run(goal, 15), run(goal, 15), run(goal, 9)
    assert [item.plan for item in first.tried] == [item.plan for item in again.tried]
    assert [item.plan for item in fewer.tried] == [item.plan for item in first.tried[:10]]


def test_a_limit_above_what_there_is_leaves_the_plain_model():
    assert chosen(run(Goal(max_visual_tokens=4000), trials=5)).number == 0


def test_fewer_tokens_than_the_first_layer_has_are_refused():
    with pytest.raises(
        UserError, match="--max-visual-tokens 60 are too few for gsearch: the first"
    ):
        run(Goal(max_visual_tokens=60))


@pytest.mark.parametrize("goal", [Goal(), Goal(max_kv=10), Goal(keep_accuracy=0.9, max_flops=1e9)])
def test_other_goals_are_refused(goal: Goal):
    with pytest.raises(UserError, match="give --keep-accuracy, --max-visual-tokens, or both"):
        run(goal)
