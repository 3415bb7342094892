"""The quality benchmark: every system beside the full model and the baselines, resumable."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import quality

    return quality


def run(quality, monkeypatch, folder: Path) -> None:
    given = ["--pictures", "color", "--films", "move", "--count", "3", "--keep", "0.5,0.25"]
    given += ["--systems", "fastervlm,evs", "--threads", "1"]
    where = ["--out", str(folder / "q"), "--records", str(folder / "records")]
    monkeypatch.setattr(sys, "argv", ["quality.py", *given, *where])
    quality.main()


def test_every_system_stands_beside_the_full_model_and_the_baselines(
    quality, monkeypatch, tmp_path
):
    run(quality, monkeypatch, tmp_path)
    names = ("random", "uniform", "pool", "downsample", "fastervlm")
    plans = [f"{name}:keep={keep}" for name in names for keep in (0.5, 0.25)]
    found = json.loads((tmp_path / "q_pictures.json").read_text())
    assert [row["label"] for row in found["rows"]] == ["full", *plans]  # evs is for films
    assert 0 <= found["priors"]["color"] <= 1
    full = found["rows"][0]
    for row in found["rows"][1:]:
        assert row["visual_mean"] < full["visual_mean"]
        assert sum(row["flops"].values()) < sum(full["flops"].values())
        assert row["tasks"]["color"]["count"] == 3
    films = json.loads((tmp_path / "q_films.json").read_text())
    assert films["rows"][-1]["label"].startswith("evs")
    for kind in ("pictures", "films"):
        assert (tmp_path / f"q_{kind}.png").stat().st_size > 1000
        assert "| fastervlm:keep=0.25 |" in (tmp_path / f"q_{kind}.md").read_text()


def test_what_was_asked_once_is_not_asked_again(quality, monkeypatch, tmp_path):
    run(quality, monkeypatch, tmp_path)
    before = (tmp_path / "q_films.md").read_text()
    from sparsight.vlm.pipeline import VLM

    monkeypatch.setattr(VLM, "chat_batch", lambda *_, **__: pytest.fail("asked again"))
    run(quality, monkeypatch, tmp_path)
    assert (tmp_path / "q_films.md").read_text() == before
