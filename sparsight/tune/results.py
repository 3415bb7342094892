"""The rows of a comparison as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sparsight.tune.compare import Impossible
from sparsight.tune.rows import Row

_PLAIN = (
    "model", "label", "role", "count", "failures", "accuracy", "score", "diff", "p_value",
    "loyalty", "visual_seen", "visual_kept", "visual_mean", "share", "kv_bytes", "first_token",
    "total", "own", "memory",
)  # fmt: skip


def as_json(rows: Sequence[Row], impossible: Sequence[Impossible], about: Mapping[str, Any]) -> str:
    """All that the rows hold; `about` says what was asked and on which machine."""
    left_out = [{"model": i.model, "label": i.label, "reason": i.reason} for i in impossible]
    found = {**about, "rows": [row.as_dict() for row in rows], "not_possible": left_out}
    return json.dumps(found, indent=1) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """A line a row; columns for each task, stage and kind of operation that any row has."""
    lines = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    content = io.StringIO()
    writer = csv.DictWriter(content, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return content.getvalue()


def _flat(row: Row) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in _PLAIN}
    found["accuracy_low"], found["accuracy_high"] = row.interval95
    found["diff_low"], found["diff_high"] = row.diff_interval
    found |= {f"flops_{name}": value for name, value in row.flops.items()}
    found |= {f"seconds_{name}": value for name, value in row.stages.items()}
    for name, task in row.tasks.items():
        found |= {f"accuracy_{name}": task.accuracy, f"count_{name}": task.count}
    found["beside"] = " ".join(row.beside)
    return found
