"""Whatever fails: one line, the right exit code, nothing lost."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from sparsight.cli.failures import explained
from sparsight.cli.files import check_target, write_whole
from sparsight.core.errors import UserError
from tests.cli.conftest import FakeVLM, Runner


def raised_from(inner: BaseException, outer: BaseException) -> BaseException:
    try:
        try:
            raise inner
        except BaseException:
            raise outer  # noqa: B904
    except BaseException as error:
        return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("film.mp4: empty\nreally"), 2, "film.mp4: empty really"),
        (KeyboardInterrupt(), 130, "stopped"),
        (raised_from(KeyboardInterrupt(), RuntimeError("library")), 130, "stopped"),
        (MemoryError(), 1, "out of memory: look at fewer frames"),
        (torch.OutOfMemoryError("CUDA out of memory."), 1, "out of memory: look at fewer frames"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            1,
            "--dtype bfloat16",
        ),
        (RuntimeError("odd\nsecond"), 1, "internal error: RuntimeError: odd (run again with"),
        (AssertionError(), 1, "internal error: AssertionError (run again with --debug)"),
        (OSError(errno.ENOSPC, "No space left on device", "see.png"), 1, "see.png: No space left"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_a_failure_has_its_line_and_code(error: BaseException, code: int, words: str):
    message, found = explained(error)
    assert found == code
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("error", [RuntimeError("odd"), UserError("wrong"), MemoryError()])
def test_a_traceback_is_shown_with_debug_alone(fake: FakeVLM, cli: Runner, error: Exception):
    fake.failure = error
    code, _, plain = cli("ask", "film.mp4", "What?")
    assert "Traceback" not in plain
    assert plain.count("\n") == 1
    assert cli("ask", "film.mp4", "What?", "--debug")[0] == code
    fake.failure = error
    _, _, debug = cli("ask", "film.mp4", "What?", "--debug")
    assert "Traceback" in debug
    assert debug.endswith(plain)


def test_an_answer_that_breaks_off_keeps_what_was_said(fake: FakeVLM, cli: Runner):
    fake.pieces, fake.failure = ["It is"], KeyboardInterrupt()
    assert cli("ask", "film.mp4", "What?") == (130, "It is\n", "sparsight: stopped\n")


def test_a_control_character_in_a_name_does_not_reach_the_terminal(fake: FakeVLM, cli: Runner):
    _, _, err = cli("ask", "\x1b]0;title\x07.mp4", "What?")
    assert err == "sparsight: ]0;title.mp4: there is no such file; check the path\n"


# Files


def test_a_file_is_written_whole_with_the_usual_rights(tmp_path: Path):
    path = tmp_path / "see.png"
    write_whole(path, b"new")
    other = tmp_path / "plain"
    other.touch()
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode == other.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [other, path]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_what_was_there_stays_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
):
    def fail(descriptor: int) -> None:
        raise failure

    path = tmp_path / "see.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(type(failure)) as caught:
        write_whole(path, b"new" * 1000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(path)


def test_a_target_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist; make it first"):
        check_target(tmp_path / "gone" / "see.png")
    with pytest.raises(UserError, match="is a folder"):
        check_target(tmp_path)
    check_target(Path("see.png"))
