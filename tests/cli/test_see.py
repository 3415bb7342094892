"""`sparsight see`: what it writes and prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sparsight.cli.see import split
from tests.cli.conftest import FakeVLM, Runner


def test_it_writes_a_picture_and_a_page_and_prints_the_counts(fake: FakeVLM, cli: Runner):
    code, out, err = cli("see", "film.mp4", "What colour is it?", "--out", "kept.png")
    assert code == 0, err
    assert out == "It is red.\nfilm.mp4: 32 tokens seen, 6 kept (18.8 %), 3 a frame\n"
    assert err == "wrote kept.png and see.html\n"
    with Image.open("kept.png") as image:
        assert image.format == "PNG"
    assert "What colour is it?" in Path("see.html").read_text()


def test_without_a_question_one_token_is_enough_and_no_answer_is_shown(fake: FakeVLM, cli: Runner):
    code, out, _ = cli("see", "film.mp4")
    assert code == 0
    assert "red" not in out
    assert fake.asked[0][2]["max_tokens"] == 1
    assert "red." not in Path("see.html").read_text()


@pytest.mark.parametrize(
    ("words", "media", "question"),
    [
        (["film.mp4"], ["film.mp4"], ""),
        (["film.mp4", "Is it red?"], ["film.mp4"], "Is it red?"),
        (["film.mp4", "Why?"], ["film.mp4"], "Why?"),
        (["film.mp4", "gone.png"], ["film.mp4", "gone.png"], ""),
        (["film.mp4", "https://a.org/b"], ["film.mp4", "https://a.org/b"], ""),
        (["film.mp4", "."], ["film.mp4", "."], ""),
    ],
)
def test_the_last_word_is_a_question_unless_it_names_a_medium(
    words: list[str], media: list[str], question: str
):
    assert split(words) == (media, question)


def test_a_system_of_several_calls_is_refused_before_the_work(fake: FakeVLM, cli: Runner):
    code, out, err = cli("see", "film.mp4", "--system", "llovi")
    assert (code, out) == (2, "")
    assert "llovi answers by several calls" in err
    assert fake.loaded is None


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_folder_that_is_missing_is_told_before_the_work(fake: FakeVLM, cli: Runner, option: str):
    code, out, err = cli("see", "film.mp4", option, "gone/see")
    assert (code, out) == (2, "")
    assert err == "sparsight: gone/see: the folder gone does not exist; make it first\n"
    assert fake.loaded is None


def test_a_real_model_is_seen(
    tiny: Path, picture: Path, cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("see", str(picture), "--model", str(tiny), "-s", "uniform:keep=4")
    assert code == 0, err
    assert out == "square.png: 16 tokens seen, 4 kept (25 %)\n"
    assert Path("see.png").stat().st_size > 1000
