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


def run(quality, monkeypatch, out: Path, *more: str) -> None:
    given = ["--tasks", "color", "--count", "3", "--keep", "0.5,0.25", "--systems", "fastervlm"]
    monkeypatch.setattr(sys, "argv", ["quality.py", *given, "--out", str(out), *more])
    quality.main()


def test_every_system_stands_beside_the_full_model_and_the_baselines(
    quality, monkeypatch, tmp_path, capsys
):
    run(quality, monkeypatch, tmp_path / "q")
    rows = json.loads((tmp_path / "q.json").read_text())["rows"]
    asked = [(row["system"], row["keep"]) for row in rows]
    names = ("random", "uniform", "pool", "downsample", "fastervlm")
    assert asked == [("full", None), *((name, keep) for name in names for keep in (0.5, 0.25))]
    full = rows[0]
    assert full["loyalty"] == 1.0
    for row in rows[1:]:
        assert row["visual"] <= full["visual"] * row["keep"] + 9  # newlines stay
        assert row["flops"] < full["flops"]
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
    assert (tmp_path / "q.png").stat().st_size > 1000
    assert "| fastervlm | 0.25 |" in (tmp_path / "q.md").read_text()
    assert not list(tmp_path.glob("*.part*"))
    assert "fastervlm keep=0.5" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_where_it_stopped(quality, monkeypatch, tmp_path):
    asked = []
    plain = quality.ask

    def counted(vlm, name, keep, items, options):
        if name == "downsample":
            raise KeyboardInterrupt
        asked.append(name)
        return plain(vlm, name, keep, items, options)

    monkeypatch.setattr(quality, "ask", counted)
    with pytest.raises(KeyboardInterrupt):
        run(quality, monkeypatch, tmp_path / "q")
    first = list(asked)
    monkeypatch.setattr(quality, "ask", lambda *a: asked.append(a[1]) or plain(*a))
    run(quality, monkeypatch, tmp_path / "q")
    assert first == ["full", "random", "random", "uniform", "uniform", "pool", "pool"]
    assert asked[len(first) :] == ["downsample", "downsample", "fastervlm", "fastervlm"]
    assert len(json.loads((tmp_path / "q.json").read_text())["rows"]) == 11


def test_other_settings_do_not_take_over_old_rows(quality, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["quality.py", "--count", "3", "--out", str(tmp_path / "q")])
    options = quality.arguments()
    quality.Rows(options).add("color", "full", None, {"replies": []})
    assert quality.Rows(options).find("color", "full", None)
    options.count = 4
    assert quality.Rows(options).find("color", "full", None) is None
