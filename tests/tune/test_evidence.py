"""What few paired answers can tell."""

from __future__ import annotations

import random

import pytest

from sparsight.tune.evidence import FIRST_LOOK, RISK, hopeless, lag, looks


def test_the_lag_is_the_mean_of_the_paired_differences():
    mean, error = lag([True, True, False, False], [True, False, True, True], share=0.5)
    assert mean == pytest.approx((0.5 + 1 - 0.5 - 0.5) / 4)
    spread = [0.5 - mean, 1 - mean, -0.5 - mean, -0.5 - mean]
    assert error == pytest.approx((sum(x * x for x in spread) / 4 / 4) ** 0.5)


def test_what_both_get_right_or_wrong_adds_no_doubt():
    same = [True] * 20 + [False] * 20
    assert lag(same, same) == (0.0, 0.0)


def test_few_questions_without_a_difference_prove_nothing():
    assert not hopeless([True] * 16, [True] * 16)
    assert not hopeless([False] * 4, [False] * 4)


def test_a_plan_that_loses_most_answers_is_given_up_at_the_first_look():
    full = [True] * FIRST_LOOK
    assert hopeless([True] * 6 + [False] * 10, full, 0.98, len(looks(128)))
    assert not hopeless([True] * 14 + [False] * 2, full, 0.98, len(looks(128)))


def test_what_is_hopeless_against_all_of_the_accuracy_may_do_for_half_of_it():
    ours, full = [True] * 40 + [False] * 24, [True] * 64
    assert hopeless(ours, full, 0.98)
    assert not hopeless(ours, full, 0.5)


def test_a_plan_that_just_meets_the_goal_is_seldom_given_up():
    """Over all looks together, at most as often as the risk allows."""
    dice, share, stopped, runs = random.Random(0), 0.95, 0, 400
    for _ in range(runs):
        full = [dice.random() < 0.8 for _ in range(128)]
        ours = [
            dice.random() < (share - 0.02 if right else 0.08) for right in full
        ]  # 0.8 * 0.93 + 0.2 * 0.08 = 0.95 * 0.8
        at = looks(128)
        stopped += any(hopeless(ours[:n], full[:n], share, len(at)) for n in at[:-1])
    assert stopped / runs <= RISK


def test_a_plan_is_looked_at_ever_more_seldom_and_last_when_all_is_asked():
    assert looks(128) == [16, 32, 64, 128]
    assert looks(100) == [16, 32, 64, 100]
    assert looks(16) == [16]
    assert looks(10) == [10]
