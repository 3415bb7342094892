"""Goals: how they are read, which plan they call the best, what they tell."""

from __future__ import annotations

import dataclasses

import pytest

from sparsight.core.errors import UserError
from sparsight.tune import units
from sparsight.tune.figures import Figures
from sparsight.tune.goals import Goal, goal_of


def figures(
    right: int = 90, cost: float = 1.0, *, lost: int = 0, count: int = 100, full: int = 90, **more
) -> Figures:
    """A plan that is right `right` times where the full model is `full` times; `lost` of the full
    model's right answers are wrong."""
    full_hits = [True] * full + [False] * (count - full)
    hits = [False] * lost + [True] * (full - lost) + [False] * (count - full)
    gained = right - (full - lost)
    hits[full : full + gained] = [True] * gained
    values = {
        "guess": 0.1, "failures": 0, "flops": 2e9 * cost, "tokens": 400 * cost,
        "kv_bytes": int(1e6 * cost), "first_token": cost, "slowness": cost,
    }  # fmt: skip
    return Figures(tuple(hits), tuple(full_hits), cost=cost, **(values | more))


@pytest.mark.parametrize(
    ("text", "value"),
    [("200ms", 0.2), ("1.5s", 1.5), ("90 s", 90), ("20m", 1200), ("1h30m", 5400), ("5µs", 5e-6)],
)
def test_times_are_read_with_their_units(text: str, value: float):
    assert units.seconds(text, "--time") == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"), [("64MB", 64_000_000), ("64MiB", 64 * 2**20), ("1.5gb", 1_500_000_000)]
)
def test_bytes_are_read_with_their_units(text: str, value: int):
    assert units.byte_count(text, "--max-kv") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.5T", (1.5e12, False)), ("300GFLOPs", (3e11, False)), ("2e9", (2e9, False)),
     ("25%", (0.25, True)), ("25 %", (0.25, True))],
)  # fmt: skip
def test_operations_are_a_number_or_a_share_of_the_full_model(text: str, value: tuple):
    assert units.operations(text, "--max-flops") == pytest.approx(value)


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("keep_accuracy", "98", "--keep-accuracy 98: give a share above 0 and up to 1"),
        ("keep_accuracy", "", "--keep-accuracy : give a share"),
        ("keep_accuracy", "0", "above 0"),
        ("keep_accuracy", "most", "such as 0.98 or 98%"),
        ("max_first_token", "200", "--max-first-token 200: give a time with its unit, such as"),
        ("max_first_token", "0ms", "more than nothing"),
        ("max_first_token", "fast", "200ms"),
        ("max_kv", "64", "--max-kv 64: give bytes with their unit, such as 64MB"),
        ("max_kv", "1MB2KB", "bytes with their unit"),
        ("max_flops", "1.5X", "--max-flops 1.5X: give operations a question, such as 1.5T"),
        ("max_flops", "150%", "up to 1"),
    ],
)
def test_a_wrong_amount_is_named_with_its_option_and_the_form(option: str, text: str, words: str):
    with pytest.raises(UserError) as found:
        goal_of(**{option: text})
    assert words in str(found.value)


def test_no_visual_tokens_at_all_is_no_limit():
    with pytest.raises(UserError, match="--max-visual-tokens 0: give 1 or more"):
        goal_of(max_visual_tokens=0)


def test_the_plain_model_keeps_all_of_its_own_accuracy():
    assert Goal(keep_accuracy=1.0).holds(figures())


def test_accuracy_counts_as_kept_only_with_a_margin_for_luck():
    """Two lost and one won of a hundred: 98.9 % kept, but hardly more than 98 %."""
    goal = Goal(keep_accuracy=0.98)
    found = figures(89, lost=2)
    assert found.kept > 0.98
    assert not goal.holds(found)
    assert goal.holds(found, caution=0.0)
    assert goal.holds(figures(90, lost=1))


def test_the_cheapest_plan_that_keeps_the_accuracy_is_the_best():
    goal = Goal(keep_accuracy=0.95)
    found = [figures(90, 0.5), figures(88, 0.3, lost=2), figures(60, 0.1, lost=30), figures(90)]
    assert sorted(found, key=goal.order) == [found[1], found[0], found[3], found[2]]


def test_with_limits_alone_the_most_accurate_plan_within_them_is_the_best():
    goal = Goal(max_visual_tokens=200)
    found = [figures(90, 0.6), figures(85, 0.5, lost=5), figures(88, 0.4, lost=2), figures(88, 0.3)]
    best = sorted(found, key=goal.order)
    assert best == [found[3], found[2], found[1], found[0]]


def test_without_a_goal_accuracy_above_guessing_counts_for_its_operations():
    """0.8 above guessing for 1.0, 0.5 for 0.5, 0 for almost nothing."""
    found = [figures(90, 1.0), figures(60, 0.5, lost=30), figures(10, 0.01, lost=80)]
    assert sorted(found, key=Goal().order) == [found[1], found[0], found[2]]


def test_a_plan_that_misses_by_little_comes_before_one_that_misses_by_much():
    goal = Goal(max_kv=100_000)
    near, far = figures(50, 0.2, lost=40), figures(90, 0.9)
    assert sorted([far, near], key=goal.order) == [near, far]


@pytest.mark.parametrize(
    ("goal", "below", "above"),
    [
        (Goal(max_first_token=0.2), {"first_token": 0.19}, {"first_token": 0.21}),
        (Goal(max_visual_tokens=100), {"tokens": 100.0}, {"tokens": 100.5}),
        (Goal(max_kv=1000), {"kv_bytes": 1000}, {"kv_bytes": 1001}),
        (Goal(max_flops=1e9), {"flops": 9e8}, {"flops": 1.1e9}),
        (Goal(max_flops_share=0.25), {"cost": 0.25}, {"cost": 0.26}),
    ],
)
def test_each_limit_reads_its_own_figure(goal: Goal, below: dict, above: dict):
    assert goal.holds(dataclasses.replace(figures(), **below))
    found = dataclasses.replace(figures(), **above)
    assert not goal.holds(found)
    [(name, over)] = goal.overs(found).items()
    assert name.startswith("--max-")
    assert 0 < over < 0.2


def test_seconds_are_the_cost_only_where_the_goal_is_a_time():
    found = figures(cost=0.5, slowness=0.8)
    assert Goal(keep_accuracy=0.9).cost(found) == 0.5
    assert Goal(keep_accuracy=0.9, max_first_token=1.0).cost(found) == 0.8


def test_a_goal_says_what_it_is_and_what_was_reached():
    goal = goal_of("98%", "200ms", 1000, "64MB", "50%")
    assert goal.words == (
        "the cheapest plan that keeps 98 % of the full model's accuracy, within max-first-token "
        "200.0 ms, max-visual-tokens 1,000, max-kv 61.0 MiB, max-flops 50 %"
    )
    told = goal.reached(figures(81, 0.5, lost=9))
    assert told[0] == "keeps 90 % of the full accuracy (wanted: 98 %)"
    assert told[2] == "max-visual-tokens 200 (wanted: at most 1,000)"
    assert len(told) == 5
