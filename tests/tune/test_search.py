"""The search on a pretended model: what it finds, what it gives up, how it goes on."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from sparsight.bench.item import Item
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.tune.evidence import FIRST_LOOK
from sparsight.tune.goals import Goal
from sparsight.tune.search import Search
from sparsight.tune.trials import Tried, best, figures_of, front, is_single, words_of
from sparsight.tune.trying import TimeUpError
from tests.tune.pretend import LOSS, Pretended, cost, items, space, truth

GOAL = Goal(keep_accuracy=0.95)


def run(
    ask: Pretended | None = None,
    goal: Goal = GOAL,
    trials: int = 40,
    seed: int = 0,
    names: Sequence[str] = (),
    count: int = 64,
) -> Search:
    search = Search(ask or Pretended(), space(*names), goal, items(count), seed=seed)
    search.run(trials)
    return search


@pytest.fixture(scope="module")
def searched() -> Search:
    return run(trials=50)


# What it finds


def test_the_best_plan_is_a_combination_that_beats_every_single_system(searched: Search):
    chosen = best(searched.tried, GOAL)
    alone = [item for item in searched.tried if is_single(item.plan, searched.space.base)]
    single = best(alone, GOAL)
    assert chosen is not None
    assert single is not None
    assert GOAL.holds(figures_of(chosen))
    assert GOAL.holds(figures_of(single))
    assert cost(chosen.plan) < 0.75 * cost(single.plan)
    assert truth(chosen.plan)[0] > 0.9 * truth(Plan())[0]


def test_the_first_trials_are_the_plain_model_and_each_system_alone(searched: Search):
    first = [words_of(item.plan) for item in searched.tried[:6]]
    assert first[0] == "the plain model"
    assert {words.split()[0] for words in first[1:5]} == {"tome", "fastervlm", "fastv", "uniform"}
    assert first[5] == "frames uniform:4"


def test_the_budgets_of_single_systems_are_brought_to_where_the_goal_is_just_satisfied(
    searched: Search,
):
    tried = [item for item in searched.tried if item.origin in ("alone", "budget")]
    of_one = [item for item in tried if words_of(item.plan).startswith("fastervlm")]
    holds = {item.plan.systems[0].keep: GOAL.holds(figures_of(item)) for item in of_one}
    least, most = (
        min(k for k, ok in holds.items() if ok),
        max(k for k, ok in holds.items() if not ok),
    )
    assert most < least < 2 * most


def test_every_origin_takes_part(searched: Search):
    origins = Counter(item.origin for item in searched.tried)
    assert set(origins) == {"plain", "alone", "budget", "together", "nearby", "sampled", "single"}


def test_the_front_holds_what_no_other_plan_beats(searched: Search):
    found = front(searched.tried, GOAL)
    done = [item for item in searched.tried if item.state == "done"]
    assert best(searched.tried, GOAL) in found
    for item in done:
        at_least = [
            other
            for other in found
            if figures_of(other).accuracy >= figures_of(item).accuracy
            and figures_of(other).cost <= figures_of(item).cost
        ]
        assert at_least
    costs = [figures_of(item).cost for item in found]
    assert costs == sorted(costs)


def test_within_a_limit_the_most_accurate_plan_is_found():
    goal = Goal(max_visual_tokens=60)
    chosen = best(run(goal=goal).tried, goal)
    assert chosen is not None
    assert figures_of(chosen).tokens <= 60
    assert truth(chosen.plan)[0] > truth(Plan())[0] - 0.06


def test_where_nothing_satisfies_the_goal_the_nearest_plan_is_told():
    goal = Goal(max_visual_tokens=1)
    search = run(goal=goal, trials=30)
    chosen = best(search.tried, goal)
    assert chosen is not None
    assert not goal.holds(figures_of(chosen))
    asked = [figures_of(item) for item in search.tried if item.figures is not None]
    assert figures_of(chosen).tokens == min(found.tokens for found in asked)
    assert len(front(search.tried, goal)) > 1


def test_a_goal_that_only_the_plain_model_reaches_gives_the_plain_model(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(LOSS, "random", 1.0)
    goal = Goal(keep_accuracy=1.0)
    chosen = best(run(goal=goal, names=["random"], trials=3).tried, goal)
    assert chosen is not None
    assert chosen.number == 0


# What it gives up


def test_hopeless_plans_are_asked_few_questions(searched: Search):
    stopped = [item for item in searched.tried if item.state == "stopped"]
    assert stopped
    assert all(figures_of(item).count < 64 for item in stopped)
    assert all(item.note for item in stopped)
    assert not any(GOAL.holds(figures_of(item)) for item in stopped)


def test_a_plan_over_a_limit_of_every_question_is_stopped_by_the_first_ones():
    ask = Pretended()
    search = run(ask, Goal(max_kv=300_000), trials=4, names=["uniform", "tome"])
    over = next(item for item in search.tried if words_of(item.plan).startswith("tome"))
    assert (over.state, figures_of(over).count) == ("stopped", 4)
    assert over.note == "max-kv 976.6 KiB"
    assert Counter(text for text, _ in ask.asked)[over.plan.to_yaml()] == 4


def test_a_system_that_fails_on_every_question_is_given_up_and_the_search_goes_on():
    search = run(Pretended(broken="fastv"), trials=12)
    broken = [item for item in search.tried if "fastv" in words_of(item.plan)]
    assert {(item.state, item.note) for item in broken} == {("stopped", "fails: it broke")}
    assert all(figures_of(item).count == 4 for item in broken)
    assert best(search.tried, GOAL) not in broken


def test_a_plan_that_does_not_run_is_noted_and_does_not_count():
    search = run(Pretended(refused="fastv"), trials=12)
    refused = [item for item in search.tried if item.state == "refused"]
    assert {item.note for item in refused} == {"fastv does not run here"}
    assert sum(item.state != "refused" for item in search.tried) == 1 + 12


def test_a_plan_that_runs_out_of_memory_is_noted_and_the_search_goes_on():
    class Small(Pretended):
        def __call__(self, plan: Plan, wanted: Sequence[Item]):
            if any(system.system_name == "fastv" for system in plan.systems):
                raise MemoryError
            return super().__call__(plan, wanted)

    search = run(Small(), trials=8)
    refused = [item for item in search.tried if item.state == "refused"]
    assert refused[0].note == "fastv keep=0.5: out of memory"
    assert sum(item.state != "refused" for item in search.tried) == 1 + 8


def test_seconds_are_not_judged_by_the_first_few_answers():
    """The first ones of a plan are slow, and a median needs more of them."""

    class Slow(Pretended):
        def __call__(self, plan: Plan, wanted: Sequence[Item]):
            found = super().__call__(plan, wanted)
            early = {item.id for item in items(64)[:4]}
            return [
                dataclasses.replace(r, first_token=9.0) if r.item in early else r for r in found
            ]

    search = run(Slow(), Goal(max_first_token=0.4), trials=4, names=["uniform"])
    chosen = best(search.tried, search.goal)
    assert chosen is not None
    assert search.goal.holds(figures_of(chosen))
    assert all(figures_of(item).count >= FIRST_LOOK for item in search.tried)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'sparsight\[tune\]'"):
        Search(Pretended(), space(), GOAL, items(32))


def test_a_single_system_is_not_stopped_because_combinations_beat_it(searched: Search):
    for item in searched.tried:
        if item.state == "stopped" and is_single(item.plan, searched.space.base):
            number = [int(word) for word in item.note.split() if word.isdigit()]
            rivals = [other for other in searched.tried if other.number in number]
            assert all(len(rival.plan.systems) <= 1 for rival in rivals)


def test_what_costs_more_than_the_plain_model_is_no_use_where_accuracy_is_to_be_kept():
    class Dear(Pretended):
        def __call__(self, plan: Plan, wanted: Sequence[Item]):
            found = super().__call__(plan, wanted)
            return [
                dataclasses.replace(r, flops={"tower": 9e9}) if plan.systems else r for r in found
            ]

    search = run(Dear(), trials=3, names=["tome"])
    dear = next(item for item in search.tried if item.plan.systems)
    assert (dear.state, dear.note) == ("stopped", "costs more than the plain model")


# How it goes on


def summary(tried: Sequence[Tried]) -> list[tuple]:
    return [(item.number, item.origin, item.plan, item.state, item.figures) for item in tried]


def test_a_seed_gives_the_same_search_and_another_one_another():
    names = ["fastv", "tome"]
    first, again, other = (run(trials=24, seed=seed, names=names) for seed in (3, 3, 4))
    assert summary(first.tried) == summary(again.tried)
    assert summary(first.tried) != summary(other.tried)


def test_more_trials_go_on_from_the_fewer():
    few, many = run(trials=18), run(trials=26)
    assert summary(few.tried) == summary(many.tried)[: len(few.tried)]
    assert len(many.tried) == len(few.tried) + 8


class Remembering(Pretended):
    """What was answered is not asked again, as with a store; stops after `left` answers."""

    def __init__(self, known: dict, left: int) -> None:
        super().__init__()
        self.known, self.left = known, left

    def __call__(self, plan: Plan, wanted: Sequence[Item]):
        text = plan.to_yaml()
        missing = [item for item in wanted if (text, item.id) not in self.known]
        found = super().__call__(plan, missing[: self.left])
        self.known |= {(text, record.item): record for record in found}
        self.left -= len(found)
        if len(found) < len(missing):
            raise KeyboardInterrupt
        return [self.known[text, item.id] for item in wanted]


@pytest.mark.parametrize("left", [100, 517, 900])
def test_an_interrupted_search_goes_on_to_the_same_result(left: int):
    whole = run(trials=22)
    known: dict = {}
    with pytest.raises(KeyboardInterrupt):
        run(Remembering(known, left), trials=22)
    assert len(known) == left
    again = Remembering(known, 100_000)
    assert summary(run(again, trials=22).tried) == summary(whole.tried)
    assert len(again.asked) == len(known) - left, "what was answered is not asked again"


def test_when_time_is_up_the_finished_trials_stand():
    class Hurried(Pretended):
        def __call__(self, plan: Plan, wanted: Sequence[Item]):
            if len(self.asked) > 300:
                raise TimeUpError
            return super().__call__(plan, wanted)

    search = run(Hurried())
    assert search.time_is_up
    whole = run()
    assert summary(search.tried) == summary(whole.tried)[: len(search.tried)]
    assert 1 < len(search.tried) < len(whole.tried)


def test_time_that_is_up_before_the_plain_model_has_answered_is_an_error():
    def never(plan: Plan, wanted: Sequence[Item]):
        raise TimeUpError

    with pytest.raises(UserError, match="give more time, or fewer questions"):
        Search(never, space(), GOAL, items(32)).run(5)


def test_a_model_that_answers_nothing_rightly_leaves_nothing_to_keep():
    wrong = [dataclasses.replace(item, score=lambda reply: 0.0) for item in items(32)]

    class Wrong(Pretended):
        def __call__(self, plan: Plan, wanted: Sequence[Item]):
            found = super().__call__(plan, wanted)
            return [dataclasses.replace(record, right=False) for record in found]

    with pytest.raises(UserError, match="answers none of 32 questions rightly: there is nothing"):
        Search(Wrong(), space(), GOAL, wrong).run(5)


def test_a_small_space_is_left_when_nothing_new_comes():
    """Without any number to vary there are few plans, far fewer than trials."""
    found = space("pllava", kinds=("film",))
    shapes = {name: dict(ranges) for name, ranges in found.ranges.items()}
    shapes["pllava"].pop("frames")
    found = dataclasses.replace(found, ranges=shapes, frames=None)

    class Pooled(Pretended):
        def __call__(self, plan: Plan, wanted: Sequence[Item]):
            return super().__call__(dataclasses.replace(plan, systems=()), wanted)

    search = Search(Pooled(), found, GOAL, items(32))
    assert len(search.run(1000)) == 6  # the plain model and five shapes


def test_few_items_are_asked_all_at_once():
    search = run(trials=5, count=FIRST_LOOK)
    assert all(item.state == "done" for item in search.tried)


def test_every_trial_is_told_as_it_ends():
    told: list[Tried] = []
    search = Search(Pretended(), space(), GOAL, items(32), on_trial=told.append)
    assert search.run(8) == told
