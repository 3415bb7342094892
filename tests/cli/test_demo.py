"""`sparsight demo`: the comparison it prints and the picture it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsight.cli import demo
from tests.cli.conftest import FakeVLM, Runner


def test_it_compares_all_tokens_with_a_share_and_draws_what_was_kept(
    fake: FakeVLM, cli: Runner, monkeypatch: pytest.MonkeyPatch
):
    Path("question.json").write_text('{"question": "Which way does it move?"}')
    monkeypatch.setattr(demo, "BUNDLE", Path())
    code, out, err = cli("demo")
    assert code == 0, err
    for words in ("Which way does it move?", "all tokens", "fastervlm:keep=0.25", "encode", "red."):
        assert words in out
    assert Path("out/demo.png").stat().st_size > 1000
    assert "Which way does it move?" in Path("out/demo.html").read_text()
    assert fake.loaded is not None
    assert fake.loaded[0].model == "mini"


def test_an_output_folder_that_is_a_file_is_told(
    fake: FakeVLM, cli: Runner, monkeypatch: pytest.MonkeyPatch
):
    Path("question.json").write_text('{"question": "Which way?"}')
    monkeypatch.setattr(demo, "BUNDLE", Path())
    code, _, err = cli("demo", "--out", "film.mp4")
    assert code == 1
    assert err == "sparsight: film.mp4: File exists\n"
