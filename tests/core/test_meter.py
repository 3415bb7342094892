"""The seconds that systems take for themselves."""

from __future__ import annotations

import threading
import time

import pytest

from sparsight.core.meter import Meter, metered, metering


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is what time it is."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_stretches_add_up_and_what_lies_between_does_not(clock: list[float]):
    meter = Meter("cpu")
    with metering(meter):
        for _ in range(3):
            with metered():
                clock[0] += 2
            clock[0] += 10
    with metered():
        clock[0] += 100
    assert meter.seconds == 6


def test_a_stretch_inside_another_counts_once(clock: list[float]):
    meter = Meter("cpu")
    with metering(meter), metered():
        clock[0] += 1
        with metered():
            clock[0] += 1
        clock[0] += 1
    assert meter.seconds == 3


def test_a_stretch_that_raises_counts_as_far_as_it_came(clock: list[float]):
    meter = Meter("cpu")

    @metered()
    def fails() -> None:
        clock[0] += 2
        raise ValueError("odd")

    with metering(meter):
        with pytest.raises(ValueError, match="odd"):
            fails()
        with metered():
            clock[0] += 1
    assert meter.seconds == 3


def test_the_inner_meter_counts_and_the_outer_goes_on_after_it(clock: list[float]):
    outer, inner = Meter("cpu"), Meter("cpu")
    with metering(outer):
        with metering(inner), metered():
            clock[0] += 1
        with metered():
            clock[0] += 4
    assert (outer.seconds, inner.seconds) == (4, 1)


def test_another_thread_is_not_counted():
    meter = Meter("cpu")

    def work() -> None:
        with metered():
            time.sleep(0.01)

    with metering(meter):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert meter.seconds == 0
