"""The benchmark of systems' own cost, on models small enough for a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def systems(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import systems
    import timing_options

    monkeypatch.setattr(timing_options, "keep_freed_memory", lambda: None)  # of the whole process
    return systems


def test_a_system_stands_against_the_plain_prefill_of_its_round(systems, monkeypatch, tmp_path):
    out = tmp_path / "s"
    given = ["--shape", "tiny", "--repeats", "2", "--media", "576", "--systems", "fastervlm,evs"]
    threads = ["--threads", str(torch.get_num_threads())]
    monkeypatch.setattr(sys, "argv", ["systems.py", *given, *threads, "--out", str(out)])
    systems.main()
    plain, faster, refused = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert plain["visual"] == 576
    assert faster["visual"] == 144
    assert len(faster["runs"]) == 2
    assert 0 < faster["own"] < plain["prefill"]
    low, high = faster["interval"]
    assert low <= faster["share"] <= high
    assert "evs works on films" in refused["refused"]
    table = (tmp_path / "s.md").read_text()
    assert "| fastervlm | reduce |" in table
    assert "- evs works on films" in table
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_the_media_have_the_tokens_that_their_names_say(systems):
    shape = systems.SHAPES["tiny"]
    for name, tokens in (("576", 576), ("5 x 576", 5 * 576), ("32 x 196", 32 * 196)):
        medium = systems.MEDIA[name]
        vlm = medium.model(shape, torch.float32, "cpu")
        frames = "all" if name == "32 x 196" else None
        (kept,) = vlm.encode(medium.clip(shape), frames=frames)
        assert int(kept.prunable.sum()) == tokens
