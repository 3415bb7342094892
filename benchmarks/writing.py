"""What the results of the benchmarks have in common: where they were measured, and their files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from sparsight.measure.machine import machine


def where_measured() -> str:
    """Processor, GPU, threads and versions, in one phrase."""
    where = machine()
    gpu = "".join(f", {item['name']}" for item in where["gpus"])
    versions = where["versions"]
    return (
        f"{where['cpu']}{gpu}, {where['threads']} thread(s), torch {versions['torch']}, "
        f"transformers {versions['transformers']}"
    )


def write_timings(
    options: argparse.Namespace, shape: Any, rows: list[dict[str, Any]], rounds: int, table: str
) -> None:
    """The JSON of a timing benchmark, and its table beside it."""
    found = {
        "machine": machine(),
        "settings": {**vars(options), "out": None, "repeats": rounds},
        "shape": vars(shape),
        "rows": rows,
    }
    write_json(options.out.with_suffix(".json"), found)
    options.out.with_suffix(".md").write_text(table)


def write_json(path: Path, content: Any) -> None:
    """Write a file that is whole whenever it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".tmp")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
