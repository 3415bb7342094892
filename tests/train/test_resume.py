"""Kill -9 at any point, resume, and nothing has happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.train.crashes import STEPS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_again_and_again_the_losses_are_those_of_one_run(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.crashes", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole, killed = (learned(tmp_path / name) for name in ("whole", "killed"))
    assert len(whole) == 2 * STEPS
    assert killed == whole
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    left = [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()]
    assert left == [f"second-{STEPS:08d}"]


def learned(out: Path) -> list[dict[str, Any]]:
    """The lines of the log without what the clock and the machine decide."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("samples_per_second", "memory_mib")}
        for line in lines
    ]
