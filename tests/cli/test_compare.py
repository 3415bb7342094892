"""`sparsight compare`: a table, files that say the same, and a run that goes on after a stop."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from sparsight.bench.store import Store
from sparsight.cli import application
from sparsight.cli.compare import budgets, split_systems
from sparsight.cli.running import run
from sparsight.core.errors import UserError
from sparsight.tune.compare import BASELINES
from tests.cli.conftest import Runner, start

CHEAP = ("--keep", "0.5", "--max-tokens", "2", "--dtype", "float32", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, picture: Path) -> Path:
    """Three questions about a picture, and two lines that cannot be used."""
    folder = tmp_path_factory.mktemp("questions")
    (folder / "square.png").write_bytes(picture.read_bytes())
    records: list[dict[str, Any]] = [
        {"image": "square.png", "question": question, "answer": "red", "task": task}
        for question, task in (("Which color?", "color"), ("What is it?", "what"), ("Why?", "what"))
    ]
    records += [{**records[0], "image": "gone.png"}, {**records[0], "answer": None}]
    path = folder / "my.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def whole(data: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("whole")
    assert run(application, asking(data, tiny, out)) == 0
    return out


def asking(data: Path, tiny: Path, out: Path, *more: str) -> tuple[str, ...]:
    given = ("--model", str(tiny), "--systems", "fastervlm", "--data", str(data), "--out", str(out))
    return ("compare", *given, *CHEAP, *more)


def lasting(out: Path) -> list[dict[str, Any]]:
    """The rows without what the clock and the memory say."""
    clocks = ("stages", "first_token", "total", "own", "memory")
    rows = json.loads((out / "compare.json").read_text())["rows"]
    return [{name: value for name, value in row.items() if name not in clocks} for row in rows]


def test_a_comparison_is_a_table_and_three_files(data: Path, tiny: Path, whole: Path, cli: Runner):
    code, table, notes = cli(*asking(data, tiny, whole))  # nothing is left to be asked
    assert code == 0, notes
    found = json.loads((whole / "compare.json").read_text())
    labels = [row["label"] for row in found["rows"]]
    assert labels[:2] == ["full", "fastervlm:keep=0.5"]
    assert [label.partition(":")[0] for label in labels[2:]] == list(BASELINES)
    for label in labels:
        assert sum(line.startswith(label) for line in table.splitlines()) == 2  # results, seconds
        assert f"{label}: 0.0% of 3" in notes
    with (whole / "compare.csv").open() as file:
        assert [line["label"] for line in csv.DictReader(file)] == labels
    page = (whole / "compare.html").read_text()
    assert all(label in page for label in labels)
    assert found["settings"]["seed"] == 0
    assert found["machine"]["versions"]["torch"]
    assert "my.jsonl, line 4: gone.png: there is no such file" in notes
    assert "my.jsonl, line 5: it has no answer" in notes
    assert "2 of 5 lines cannot be used" in notes


def test_what_is_not_possible_is_listed_and_the_rest_goes_on(
    data: Path, tiny: Path, tmp_path: Path, cli: Runner
):
    code, table, notes = cli(
        *asking(data, tiny, tmp_path / "out", "--no-baselines", "--count", "1"),
        "--systems", "fastv:layer=9,keep=0.5,fastervlm",
    )  # fmt: skip
    assert code == 0, notes
    assert "not possible: fastv:layer=9,keep=0.5 is not possible on" in table
    assert notes.startswith("fastv:layer=9,keep=0.5 is not possible on")
    assert [row["label"] for row in lasting(tmp_path / "out")] == ["full", "fastervlm:keep=0.5"]
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [item["label"] for item in found["not_possible"]] == ["fastv:layer=9,keep=0.5"]


def test_plans_are_compared_on_their_own_model_unless_told(
    data: Path, tiny: Path, tmp_path: Path, cli: Runner
):
    plan = tmp_path / "mine.yaml"
    plan.write_text(f"model: {tiny}\nsystems: [{{fastervlm: {{keep: 0.5}}}}]\n")
    code, _, notes = cli(
        "compare", "--plan", str(plan), "--data", str(data), "--count", "1", *CHEAP,
        "--no-baselines", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == 0, notes
    rows = lasting(tmp_path / "out")
    assert [(row["model"], row["label"]) for row in rows] == [
        (str(tiny), "full"), (str(tiny), "mine"),
    ]  # fmt: skip


@pytest.mark.slow
def test_after_kill_9_and_ctrl_c_the_same_command_ends_with_the_same_results(
    data: Path,
    tiny: Path,
    whole: Path,
    tmp_path: Path,
    cli: Runner,
    monkeypatch: pytest.MonkeyPatch,
):
    cut = tmp_path / "cut"
    program = """
import os, signal
import sparsight.bench.store as store
add, left = store.Store.add, [7]
def dying(self, key, records):
    left[0] -= 1
    if not left[0]:
        path = self._path(key)
        with path.open("ab") as file:
            file.write(b'{"sign": "half a li')
            file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, key, records)
store.Store.add = dying
"""
    killed = start(*asking(data, tiny, cut), program=program)
    _, err = killed.communicate(timeout=280)
    assert killed.returncode == -signal.SIGKILL, err
    assert not (cut / "compare.json").exists()

    add, asked = Store.add, []

    def stopping(self: Store, key: str, records: Any) -> None:
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append(key)
        add(self, key, records)

    monkeypatch.setattr(Store, "add", stopping)
    code, table, notes = cli(*asking(data, tiny, cut))
    assert (code, table) == (130, "")
    assert notes.endswith("the same command goes on from here\nsparsight: stopped\n")
    assert len(asked) == 4

    monkeypatch.setattr(Store, "add", lambda *given: asked.append(given[1]) or add(*given))
    assert cli(*asking(data, tiny, cut))[0] == 0
    assert len(asked) == 6 * 3 - 6  # all but those of before the kill
    assert lasting(cut) == lasting(whole)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to compare: --systems fastervlm,fastv or --plan plan.yaml"),
        (["--systems", "tome"], "say what to ask: either --tasks color,move or --data my.jsonl"),
        (["--systems", "tome", "--tasks", "color", "--data", "x"], "say what to ask: either"),
        (["--systems", "toome", "--tasks", "color"], "unknown system 'toome'; did you mean 'tome'"),
        (["--systems", "tome", "--tasks", "colour"], "did you mean 'color'"),
        (["--systems", "tome", "--data", "gone.jsonl"], "gone.jsonl cannot be read"),
        (["--systems", "tome", "--tasks", "color", "--keep", "1.5"], "--keep 1.5 is not allowed"),
        (["--systems", "tome", "--tasks", "color", "--equal", "time"], "unknown budget 'time'"),
        (["--systems", "tome", "--tasks", "color", "--model", "gone"], "model 'gone' is neither"),
        (["--systems", "tome", "--tasks", "color", "--frames", "some"], "some"),
        (["--plan", "gone.yaml", "--tasks", "color"], "cannot read the plan gone.yaml"),
        (["--systems", "tome", "--tasks", "color", "--count", "0"], "'--count'"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    arguments: list[str], words: str, cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("compare", *arguments, "--out", "results")
    assert (code, out) == (2, ""), err
    assert words in err
    assert err.count("\n") == 1
    assert not Path("results").exists()


def test_a_folder_that_is_a_file_is_refused(data: Path, tiny: Path, tmp_path: Path, cli: Runner):
    (tmp_path / "out").touch()
    code, _, err = cli(*asking(data, tiny, tmp_path / "out"))
    assert code == 2
    assert "cannot be written to" in err.splitlines()[-1]


def test_systems_are_parted_from_their_knobs():
    text = "tome, fastv:layer=3,keep=0.5,pllava:shape=16,12,12,frames=4,fastervlm"
    assert split_systems(text) == [
        "tome", "fastv:layer=3,keep=0.5", "pllava:shape=16,12,12,frames=4", "fastervlm",
    ]  # fmt: skip
    assert split_systems("") == []
    assert split_systems("tome,tome") == ["tome"]


def test_budgets_are_shares_or_counts():
    assert [(value, type(value)) for value in budgets("0.5,144, 1.0,1")] == [
        (0.5, float), (144, int), (1.0, float), (1, int),
    ]  # fmt: skip
    for wrong in ("0", "1.5", "-3", "half", "nan", "0.0"):
        with pytest.raises(UserError, match="is not allowed"):
            budgets(wrong)
    with pytest.raises(UserError, match="names no budget"):
        budgets(",")
