"""The card of an embedded model says what its files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from embedded_card import card, scored
from safetensors.torch import save_file


def score(accuracy: float, **other: object) -> dict:
    interval = (accuracy - 0.01, min(1.0, accuracy + 0.01))
    return {
        "accuracy": accuracy,
        "interval": interval,
        "blind": 0.1,
        "prior": 0.2,
        "questions": 2000,
        **other,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    save_file({"a": torch.zeros(1000, 1000), "b": torch.zeros(500_000)}, model / "m.safetensors")
    text = {
        "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 8192, "vocab_size": 1024,
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 160, "patch_size": 7,
        "num_hidden_layers": 5, "num_attention_heads": 2,
    }  # fmt: skip
    config = {"architectures": ["Some"], "text_config": text, "vision_config": vision}
    (model / "config.json").write_text(json.dumps(config))
    machine = {"cpu": "some CPU", "cores": 2, "gpus": []}
    scores = {"machine": machine, "dtype": "float32", "side": 112}
    scores["scores"] = {"test": {"color": score(0.971)}, "combos": {"color": score(0.95)}}
    (model / "scores.json").write_text(json.dumps(scores))
    recipe = {"name": "mini", "seed": 0, "dtype": "bfloat16", "processes": 2}
    recipe |= {"stages": ["look"], "stages.look.batch": 1, "stages.look.accumulate": 3}
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe}))
    log = [
        {"stage": "look", "step": step, "samples_per_second": 0.5} for step in range(100, 1001, 100)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return tmp_path


def test_it_tells_size_training_and_scores(run: Path):
    text = card(run)
    assert "of 1.5 million parameters" in text
    assert "| look | the tower alone" in text
    assert "| 1,000 | 3.3 |" in text  # 1000 steps of 6 samples at half a sample a second
    assert (
        "| color | 97.1 (96.1 to 98.1) | 95 | 10.0 | 20.0 | 95.0 (94.0 to 96.0) | 2,000 |" in text
    )
    assert "Short of their goals: none." in text


def test_what_falls_short_is_named():
    sizes = {"large": 0.9, "medium": 0.7, "small": 0.2, "tiny": 0.0}
    test = {"count": score(0.85), "read": score(0.45, by_size=sizes), "box": score(0.3)}
    lines = scored({"test": test, "combos": {"box": score(0.2)}})
    short = "count 85.0 (goal 90); read 80.0 (goal 85); combinations in box 20.0"
    assert lines[-1] == f"Short of their goals: {short}."
    assert (
        "Reading by the size of the text: large 90.0, medium 70.0, small 20.0, tiny 0.0." in lines
    )
