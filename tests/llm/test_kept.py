from __future__ import annotations

from pathlib import Path

import pytest

from sparsight.core.errors import UserError
from sparsight.llm import kept
from sparsight.llm.kept import KeptTexts


def test_what_was_kept_in_a_file_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    KeptTexts(path).update(a="a dog.", b="zwei\nHünde")
    again = KeptTexts(path)
    assert dict(again) == {"a": "a dog.", "b": "zwei\nHünde"}
    assert "c" not in again


def test_a_line_that_was_cut_short_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    texts = KeptTexts(path)
    texts["a"] = "one"
    texts["b"] = "two"
    path.write_bytes(path.read_bytes()[:-9])
    again = KeptTexts(path)
    assert dict(again) == {"a": "one"}
    again["c"] = "three"
    assert dict(KeptTexts(path)) == {"a": "one", "c": "three"}


def test_other_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(b'[1]\n{"key": "a"}\n\xff\xfe\n{"key": "b", "text": "two"}')
    assert dict(KeptTexts(path)) == {"b": "two"}


@pytest.mark.parametrize("name", ["missing/captions.jsonl", "."])
def test_a_file_that_cannot_be_written_is_named_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="texts cannot be kept there"):
        KeptTexts(tmp_path / name)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST", 3)
    texts = KeptTexts()
    for name in "abcde":
        texts[name] = name.upper()
    assert dict(texts) == {"c": "C", "d": "D", "e": "E"}
