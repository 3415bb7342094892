"""Rows as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json

import sparsight.systems
from sparsight.core.plan import Plan, parse_system
from sparsight.tune.compare import Impossible
from sparsight.tune.results import as_csv, as_json
from sparsight.tune.rows import row_of
from tests.bench.fakes import record

sparsight.systems.load()
FULL = [record("a"), record("b", task="move")]
LESS = [record("a", stages={"decode": 0.5}, visual_mean=25.0), record("b", False, task="move")]
ROWS = [
    row_of(FULL, FULL, model="mini", label="full", plan=Plan(), role="full"),
    row_of(
        LESS, FULL, model="mini", label="fastv:layer=3,keep=0.5",
        plan=Plan(systems=(parse_system("fastv:layer=3,keep=0.5"),)),
    ),
]  # fmt: skip


def test_json_holds_everything():
    found = json.loads(as_json(ROWS, [Impossible("mini", "x", "why")], {"settings": {"seed": 3}}))
    assert found["settings"] == {"seed": 3}
    assert found["not_possible"] == [{"model": "mini", "label": "x", "reason": "why"}]
    row = found["rows"][1]
    assert row["knobs"]["fastv"]["layer"] == 3
    assert row["stages"] == {"decode": 0.25, "encode": 0.1}
    assert row["tasks"]["move"]["accuracy"] == 0.0


def test_csv_has_a_line_a_row_and_a_column_for_all_that_any_row_has():
    full, less = csv.DictReader(io.StringIO(as_csv(ROWS)))
    assert less["label"] == "fastv:layer=3,keep=0.5"
    assert (full["seconds_decode"], less["seconds_decode"]) == ("", "0.25")
    assert float(less["accuracy"]) == 0.5
    assert float(less["accuracy_move"]) == 0.0
    assert float(less["share"]) == 0.625
    assert float(less["diff_low"]) <= float(less["diff"]) <= float(less["diff_high"])
    assert full["flops_tower"] == "4.0"
