"""What a plan gave and cost, summed up beside the full model."""

from __future__ import annotations

import dataclasses

import pytest

from sparsight.bench.record import Record
from sparsight.core.plan import Plan
from sparsight.core.registry import build
from sparsight.tune.figures import best_guesses, figures
from tests.tune.pretend import Pretended, items


def test_costs_are_shares_of_the_full_models_on_the_same_items():
    ask, asked = Pretended(), items(32)
    full = ask(Plan(), asked)
    found = figures(
        ask(Plan(systems=(build("uniform", {"keep": 0.5}),)), asked), full, [False] * 32
    )
    assert found.cost == pytest.approx(0.4 + 0.6 * 0.5)
    assert found.flops == pytest.approx(1e9 * found.cost)
    assert (found.tokens, found.kv_bytes) == (200, 500_000)
    assert found.slowness == pytest.approx(found.cost)
    assert (found.count, found.failures, found.guess) == (32, 0, 0)


def test_limits_for_every_item_are_held_against_the_worst_one():
    full = [Record(str(place), "t", visual_mean=100, kv_bytes=10) for place in range(3)]
    some = [dataclasses.replace(full[0], visual_mean=50, kv_bytes=5), *full[1:]]
    found = figures(some, full, [False] * 3)
    assert (found.tokens, found.kv_bytes) == (100, 10)


def test_a_failure_is_wrong_and_saves_nothing():
    full = [Record(str(n), "t", right=True, flops={"prefill": 8.0}, total=1.0) for n in range(2)]
    cheap = dataclasses.replace(full[0], flops={"prefill": 2.0})
    broken = Record("1", "t", error="out of luck")
    found = figures([cheap, broken], full, [False, False])
    assert found.accuracy == 0.5
    assert found.failures == 1
    assert found.cost == pytest.approx((2 + 8) / 16)


def test_the_time_to_the_first_token_is_the_median():
    full = [Record(str(n), "t", first_token=second) for n, second in enumerate((1.0, 2.0, 30.0))]
    assert figures(full, full, [False] * 3).first_token == 2.0


def test_the_best_guess_is_one_answer_a_task():
    asked = [
        dataclasses.replace(item, answer=answer, score=lambda reply, a=answer: float(reply == a))
        for item, answer in zip(items(8), "rlrlrluu", strict=True)
    ]  # tasks color and move in turn: color has r, r, r, u and move l, l, l, u
    assert best_guesses(asked) == [True] * 6 + [False] * 2


def test_a_model_that_is_hardly_better_than_guessing_is_told_from_one_that_sees():
    full = [Record(str(n), "t", right=n < 12) for n in range(32)]
    assert figures(full, full, [n < 8 for n in range(32)]).blind
    assert not figures(full, full, [n < 2 for n in range(32)]).blind
