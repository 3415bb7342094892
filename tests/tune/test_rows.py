"""A row sums up records: rates over all items, costs over those that were answered."""

from __future__ import annotations

import json

import pytest

import sparsight.systems
from sparsight.core.plan import Plan, parse_system
from sparsight.measure.statistics import wilson
from sparsight.tune.rows import TaskScore, row_of
from tests.bench.fakes import record

FULL = [record("a"), record("b"), record("c", False), record("d")]


def test_the_full_model_beside_itself():
    row = row_of(FULL, FULL, model="mini", label="full", plan=Plan(), role="full")
    assert (row.accuracy, row.count, row.failures) == (0.75, 4, 0)
    assert row.interval95 == wilson(3, 4)
    assert (row.diff, row.diff_interval, row.p_value, row.loyalty) == (0.0, (0.0, 0.0), 1.0, 1.0)
    assert (row.share, row.visual_mean) == (1.0, 100.0)
    assert row.flops == {"tower": 4.0, "prefill": 2.0, "decode": 1.0}
    assert row.plan == "model: mini\nsystems: []\n"


def test_differences_are_of_the_same_items():
    records = [record("a", False), record("b"), record("c"), record("d", False)]
    row = row_of(records, FULL)
    assert row.accuracy == 0.5
    assert row.diff == pytest.approx(-0.25)  # two lost, one won
    assert row.diff_interval[0] < row.diff < row.diff_interval[1]
    assert row.p_value == 1.0
    assert row.loyalty == 0.25


def test_six_lost_and_none_won_is_significant():
    many = [record(str(i)) for i in range(6)]
    row = row_of([record(str(i), False) for i in range(6)], many)
    assert row.p_value == pytest.approx(0.03125)
    assert row.diff == -1.0


def test_a_failure_is_wrong_and_costs_nothing():
    failed = record("a", False, reply="", error="odd", visual_mean=0.0, flops={}, stages={})
    cheap = [
        record(name, visual_mean=20.0, total=2.0, own=0.5, kv_bytes=7, memory=10) for name in "bcd"
    ]
    row = row_of([failed, *cheap], FULL)
    assert (row.failures, row.count, row.reasons) == (1, 4, {"odd": 1})
    assert row.accuracy == 0.75
    assert (row.visual_mean, row.share, row.total, row.own) == (20.0, 0.2, 2.0, 0.5)
    assert (row.kv_bytes, row.memory) == (7, 10)
    assert row.flops["tower"] == 4.0
    assert row.loyalty == 0.5  # of all four, "c" had another answer


def test_two_failures_are_not_the_same_answer():
    failed = [record("a", False, reply="", error="odd")]
    row = row_of(failed, failed)
    assert row.loyalty == 0.0
    assert row.share == 0.0
    assert (row.visual_mean, row.memory, row.stages) == (0.0, 0, {})


def test_stages_that_only_some_items_have_are_spread_over_all():
    records = [record("a", stages={"encode": 0.2}), record("b", stages={"decode": 0.4})]
    stages = row_of(records, FULL[:2]).stages
    assert list(stages.items()) == [("decode", 0.2), ("encode", 0.1)]  # as a request goes


def test_the_memory_is_the_most_that_one_question_took():
    records = [record("a", memory=5), record("b", memory=9)]
    assert row_of(records, FULL[:2]).memory == 9


def test_tasks_are_told_apart():
    records = [record("a"), record("b", False), record("c", task="move"), record("d", task="move")]
    row = row_of(records, [record(name, task=item.task) for name, item in zip("abcd", records,
                 strict=True)])  # fmt: skip
    assert row.tasks == {
        "color": TaskScore(0.5, wilson(1, 2), 2),
        "move": TaskScore(1.0, wilson(2, 2), 2),
    }


def test_every_knob_is_written_out():
    sparsight.systems.load()
    plan = Plan(systems=(parse_system("fastervlm:keep=0.5"), parse_system("fastv:layer=3")))
    row = row_of(FULL, FULL, plan=plan)
    assert row.knobs["fastervlm"]["keep"] == 0.5
    assert row.knobs["fastv"]["layer"] == 3
    assert Plan.from_yaml(row.plan).systems == plan.systems


def test_other_items_are_no_comparison():
    with pytest.raises(AssertionError, match="not the same items"):
        row_of(FULL, FULL[::-1])


def test_a_row_goes_through_json():
    row = row_of(FULL, FULL, model="mini", label="full")
    found = json.loads(json.dumps(row.as_dict()))
    assert found["tasks"]["color"]["count"] == 4
    assert found["interval95"] == list(row.interval95)
