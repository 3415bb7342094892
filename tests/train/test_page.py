"""The recipe on the page about training runs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sparsight.train.run import run
from tests.train.families import make

PAGE = Path(__file__).resolve().parents[2] / "docs" / "train.md"


def test_the_recipe_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    [code] = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
              if "def recipe()" in block]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Image.new("RGB", (40, 30), "red").save("data/red.png")
    turns = [{"from": "human", "value": "what is in it ?"}, {"from": "gpt", "value": "a cat ."}]
    record = {"image": "red.png", "conversations": turns}
    Path("data/talks.json").write_text(json.dumps([record] * 3))
    names: dict[str, Any] = {}
    exec(code, names)
    made = make("llava-onevision", tmp_path / "base")
    recipe = dataclasses.replace(names["recipe"](), model=str(made.folder))
    small = {f"stages.{stage}.{key}": 2 for stage in ("connector", "answers")
             for key in ("steps", "batch", "log_every")}  # fmt: skip
    outcome = run(recipe, tmp_path / "out", device="cpu", set=small)
    assert outcome.model is not None
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["connector", "answers"]
    assert lines[1]["rate/*lora_*"] == 2e-4 / 2
