"""Two processes learn what one learns, under DDP and FSDP."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sparsight.train.run import run
from tests.train.distributed import recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path):
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *start, "-m", "tests.train.distributed", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run(recipe(4), tmp_path / "one", device="cpu")
    one = safetensors.torch.load_file(tmp_path / "one" / "model" / "model.safetensors")
    for kind in ("ddp", "fsdp"):
        assert losses(tmp_path / kind) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
        two = safetensors.torch.load_file(tmp_path / kind / "model" / "model.safetensors")
        assert one.keys() == two.keys()
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines]
