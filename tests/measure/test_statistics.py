"""Medians, percentiles and intervals against numpy and published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsight.measure.statistics import (
    interval_of_median,
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
