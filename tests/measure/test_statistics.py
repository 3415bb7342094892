"""Medians, percentiles and intervals against numpy and published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.measure.statistics import (
    interval_of_difference,
    interval_of_median,
    mcnemar,
    median,
    p95,
    percentile,
    summary,
    wilson,
)


@settings(max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], share: float):
    assert percentile(values, share) == pytest.approx(np.percentile(values, share), abs=1e-6)


def test_median_and_p95():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert p95(list(range(101))) == 95.0


@pytest.mark.parametrize(
    ("count", "ranks"),  # the ranks, from 1, of the usual tables
    [(5, (1, 5)), (6, (1, 6)), (10, (2, 9)), (15, (4, 12)), (25, (8, 18)), (30, (10, 21))],
)
def test_interval_of_median_has_the_ranks_of_the_tables(count: int, ranks: tuple[int, int]):
    assert interval_of_median(list(range(1, count + 1))[::-1]) == ranks


def test_interval_of_median_covers_the_true_median_19_times_of_20():
    draws = np.random.default_rng(0).exponential(size=(2000, 15))
    intervals = np.array([interval_of_median(row.tolist()) for row in draws])
    covered = (intervals[:, 0] <= np.log(2)) & (np.log(2) <= intervals[:, 1])
    assert 0.95 <= covered.mean() < 0.98


@pytest.mark.parametrize(
    ("successes", "total", "interval"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))],
)
def test_wilson_gives_newcombes_published_intervals(
    successes: int, total: int, interval: tuple[float, float]
):
    assert wilson(successes, total) == pytest.approx(interval, abs=5e-5)


@settings(max_examples=50)
@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_stays_within_a_share_and_around_it(successes: int, failures: int):
    low, high = wilson(successes, successes + failures)
    assert 0.0 <= low <= high <= 1.0
    if successes + failures:
        assert low <= successes / (successes + failures) <= high
    flipped = wilson(failures, successes + failures)
    assert (1 - flipped[1], 1 - flipped[0]) == pytest.approx((low, high), abs=1e-12)


def test_a_summary_holds_what_a_benchmark_writes_down():
    assert summary([2.0, 1.0, 3.0]) == {
        "runs": 3, "median": 2.0, "p95": pytest.approx(2.9), "min": 1.0, "max": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "won", "p_value"),
    # 2 * the binomial tail: of 5, of 6 and of 10 throws, and 7 of 25 by the tables
    [(0, 5, 0.0625), (0, 6, 0.03125), (1, 9, 0.021484375), (7, 18, 0.04328525), (4, 4, 1.0)],
)
def test_mcnemars_exact_test(lost: int, won: int, p_value: float):
    assert mcnemar(lost, won) == pytest.approx(p_value)
    assert mcnemar(won, lost) == mcnemar(lost, won)


def test_mcnemar_knows_nothing_of_pairs_that_agree():
    assert mcnemar(0, 0) == 1.0


def test_mcnemar_holds_at_large_counts():
    assert mcnemar(5000, 5000) == 1.0
    # the normal approximation with its correction: z = (200 - 1) / sqrt(10,000)
    assert mcnemar(4900, 5100) == pytest.approx(0.0466, abs=2e-4)
    assert 0 < mcnemar(10, 990) < 1e-270


def test_the_interval_of_a_difference_covers_the_true_one_19_times_of_20():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        first, second = rng.random(120) < 0.8, rng.random(120) < 0.7
        low, high = interval_of_difference(first.tolist(), second.tolist(), draws=1000)
        covered.append(low <= 0.1 <= high)
    assert 0.92 < np.mean(covered) < 0.98


def test_pairs_that_go_together_have_the_narrower_interval():
    rng = np.random.default_rng(1)
    first = (rng.random(200) < 0.5).tolist()
    near = [not hit if place < 10 else hit for place, hit in enumerate(first)]
    apart = rng.permutation(near).tolist()

    def width(other: list[bool]) -> float:
        low, high = interval_of_difference(first, other)
        return high - low

    assert width(near) < width(apart) / 2


def test_the_interval_of_a_difference_is_the_plain_bootstraps():
    rng = np.random.default_rng(2)
    first, second = rng.random(40), rng.random(40)
    low, high = interval_of_difference(first.tolist(), second.tolist())
    means = (first - second)[rng.integers(0, 40, (20_000, 40))].mean(1)
    assert (low, high) == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.01)


def test_the_same_pairs_have_the_same_interval():
    first, second = [True, False, True, True], [True, True, False, False]
    assert interval_of_difference(first, second) == interval_of_difference(first, second)
    assert interval_of_difference(first, second, seed=1) != interval_of_difference(first, first)
    assert interval_of_difference([True, True], [False, False]) == (1.0, 1.0)
    assert interval_of_difference([], []) == (0.0, 0.0)
