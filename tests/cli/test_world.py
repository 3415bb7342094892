"""`sparsight world make` and `sparsight world show`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sparsight.world.folder import Made

from .conftest import ROOT, Runner, start

PAGE = (ROOT / "docs" / "world.md").read_text()
MAKE = ("world", "make", "--task", "move", "--count", "4", "--frames", "6", "--side", "64")


def media(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "media").iterdir()}


# make


def test_make_tells_what_it_made(cli: Runner, tmp_path: Path) -> None:
    out = tmp_path / "made"
    assert cli(*MAKE, "--out", str(out)) == (
        0,
        f"4 scenes in {out}; 4 records in conversations.jsonl\n",
        "",
    )
    assert len((out / "conversations.jsonl").read_text().splitlines()) == 4
    again = cli(*MAKE, "--out", str(out))
    assert again == (
        0,
        f"4 scenes in {out}, 4 of them there before; 4 records in conversations.jsonl\n",
        "",
    )


def test_make_hands_on_every_option(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option reaches the request under its own name."""
    from sparsight.world import write
    from sparsight.world.request import Request

    seen: list[tuple[Any, Any]] = []

    def make(request: Request, out: Path, **options: Any) -> Made:
        options.pop("on_frames")
        seen.append((request, options))
        return Made(0, 0, 0)

    monkeypatch.setattr(write, "make", make)
    given: dict[str, Any] = {
        "split": "combos", "task": "color", "count": 7, "frames": 3, "side": 96, "aspect": 1.5,
        "fps": 5.0, "seed": 9, "sprites": tmp_path,
    }  # fmt: skip
    for more in ({"form": "choice"}, {"turns": 2}):
        asked = given | more
        words = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
        code, _, err = cli("world", "make", "--out", "x", "--sound", "--masks", *words)
        assert (code, err) == (0, "")
        assert seen.pop() == (Request(**asked), {"sound": True, "masks": True})


@pytest.mark.parametrize(
    ("words", "sound"),
    [
        (["--task", "sound"], True),
        (["--task", "sound", "--no-sound"], False),
        (["--task", "move"], False),
        (["--task", "move", "--sound"], True),
    ],
)
def test_sound_is_written_where_it_is_asked_about_or_for(
    cli: Runner, monkeypatch: pytest.MonkeyPatch, words: list[str], sound: bool
) -> None:
    from sparsight.world import write

    seen: list[bool] = []

    def make(*_: Any, sound: bool, **__: Any) -> Made:
        seen.append(sound)
        return Made(0, 0, 0)

    monkeypatch.setattr(write, "make", make)
    assert cli("world", "make", "--out", "x", *words)[0] == 0
    assert seen == [sound]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--side", "5000"], "side must be from 64 to 1,344, not 5000"),
        (["--frames", "0"], "frames must be from 1 to 10,000, not 0"),
        (["--frames", "10001"], "frames must be from 1 to 10,000, not 10001"),
        (["--aspect", "nan"], "aspect must be from 0.25 to 4, not nan"),
        (["--fps", "0"], "fps must be from"),
        (["--seed", "-1"], "seed must be from"),
        (["--count", "0"], "count must be from"),
        (["--turns", "0"], "turns must be from"),
        (["--task", "neddle"], "unknown task 'neddle'; did you mean 'needle'?"),
        (["--split", "tets"], "unknown split 'tets'; did you mean 'test'?"),
        (["--form", "opne"], "unknown form 'opne'; did you mean 'open'?"),
        (["--sprites", "no/such"], "no/such"),
        (["--count", "many"], "invalid value for '--count'"),
    ],
)
@pytest.mark.parametrize("command", ["make", "show"])
def test_what_is_wrong_is_told_in_one_line(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: str, words: list[str], told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if command == "show" and words[0] == "--side":
        words = ["--sied", "5000"]
        told = "no such option"
    code, out, err = cli("world", command, "--out", "out", *words)
    assert (code, out) == (2, "")
    assert err.startswith("sparsight: ")
    assert told.lower() in err.lower()
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_stops_with_one_line(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsight.world import write

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "paint_film", stop)
        assert cli(*MAKE, "--out", str(tmp_path)) == (130, "", "sparsight: stopped\n")
    assert not list((tmp_path / "media").iterdir())
    assert cli(*MAKE, "--out", str(tmp_path))[0] == 0


def test_a_full_disk_is_our_exit_code_one(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsight.world import encode

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, out, err = cli(*MAKE, "--out", str(tmp_path))
    assert (code, out) == (1, "")
    assert re.fullmatch(r"sparsight: \S+: No space left on device\n", err)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(encode.PART)]


def test_a_run_that_was_killed_is_completed(cli: Runner, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert cli(*MAKE, "--out", str(whole))[0] == 0
    # slow enough that the kill falls into the second film
    slow = (
        "import time\nfrom sparsight.world import write\npaint = write.paint_film\n"
        "def slowly(*a, **k):\n  for piece in paint(*a, chunk=2, **k):\n"
        "    yield piece\n    time.sleep(0.3)\nwrite.paint_film = slowly"
    )
    process = start(*MAKE, "--out", str(killed), program=slow)
    until = time.monotonic() + 60
    while not (killed / "media" / "000000.mp4").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.communicate()
    assert "000003.mp4" not in media(killed)
    assert not (killed / "conversations.jsonl").exists()
    assert cli(*MAKE, "--out", str(killed))[0] == 0
    assert media(killed) == media(whole)
    for name in ("conversations.jsonl", "world.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


# rooms


def test_rooms_are_written_and_can_be_asked_about(cli: Runner, tmp_path: Path) -> None:
    out = tmp_path / "rooms"
    words = ("world", "rooms", "--out", str(out), "--count", "2", "--views", "3", "--side", "64")
    code, printed, err = cli(*words, "--task", "nearer", "--split", "test", "--depth")
    assert (code, printed, err) == (
        0,
        f"2 rooms in {out}; 2 records in conversations.jsonl\n",
        "",
    )
    assert len(media(out)) == 2 * 3 * 2
    from sparsight.bench.data import read_items
    from sparsight.world.tasks.scoring import SCORERS

    items, skipped = read_items(out / "conversations.jsonl", scorers=SCORERS)
    assert not skipped
    assert [len(item.sources()) for item in items] == [3, 3]
    assert all(item.score(item.answer) == 1 for item in items)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--task", "near"], "unknown task of rooms 'near'"),
        (["--views", "1"], "views must be from 2 to 8, not 1"),
        (["--side", "8"], "side must be from 64 to 1,344, not 8"),
        (["--split", "best"], "unknown split 'best'"),
    ],
)
def test_bad_wishes_for_rooms_are_named(
    cli: Runner, tmp_path: Path, words: list[str], told: str
) -> None:
    code, _, err = cli("world", "rooms", "--out", str(tmp_path / "x"), *words)
    assert code == 2
    assert told in err
    assert not (tmp_path / "x").exists()


# show


def test_show_draws_and_prints(cli: Runner, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    code, told, err = cli("world", "show", "--task", "color", "--out", str(out))
    assert code == 0
    assert "color" in told
    assert err == f"wrote {out}\n"
    assert Image.open(out).width == 1600


def test_show_refuses_a_path_before_it_draws(cli: Runner, tmp_path: Path) -> None:
    code, _, err = cli("world", "show", "--out", str(tmp_path / "no" / "sheet.png"))
    assert code == 2
    assert "does not exist" in err


def test_show_does_not_draw_a_sheet_without_end(cli: Runner, tmp_path: Path) -> None:
    code, _, err = cli("world", "show", "--count", "21", "--out", str(tmp_path / "a.png"))
    assert code == 2
    assert "20" in err


# The page


def test_the_commands_of_the_page_run(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^(?:\$ )?sparsight (world .+)$", PAGE, re.MULTILINE)
    runnable = [shlex.split(line, comments=True) for line in commands if "--sprites" not in line]
    assert len(runnable) >= 3
    for words in runnable:
        code, _, err = cli(*words)
        assert code == 0, (words, err)


def test_the_examples_of_the_page_are_asked_today() -> None:
    """All but the last cell, whose numbers take a minute."""
    from sparsight.world.tasks import TASKS

    path = ROOT / "docs" / "make_world.py"
    spec = importlib.util.spec_from_file_location("make_world", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shown = re.findall(r"^(\| `\w+` \|.+\|) \d+ % \|$", PAGE, re.MULTILINE)
    assert shown == [script.row(task) for task in TASKS], "run: python docs/make_world.py"


def test_the_python_of_the_page_runs(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli(*MAKE, "--out", "moves")[0] == 0
    for block in re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/world.md", "exec"), {})
    judged, *shapes, blind = capsys.readouterr().out.splitlines()
    assert judged == "1.0"
    assert [line.partition("]")[0] for line in shapes] == ["torch.Size([8, 112, 112, 3"] * 3
    assert blind.startswith("blind: 0.")


def test_the_record_of_the_page_has_the_keys_that_are_written(cli: Runner, tmp_path: Path) -> None:
    (shown,) = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
    assert cli(*MAKE, "--out", str(tmp_path), "--masks")[0] == 0
    line = (tmp_path / "conversations.jsonl").read_text().splitlines()[0]
    written = json.loads(line)
    assert set(json.loads(shown)) == set(written) - {"masks"}
    assert set(json.loads(shown)["truth"]) == set(written["truth"])
