"""`sparsight tune`: a model, questions and a goal in, a plan out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sparsight
from sparsight.core.plan import Plan
from tests.cli.conftest import Runner
from tests.tune.pretend import PretendedVLM

OPTIONS = ("--data", "my.jsonl", "--systems", "fastervlm,fastv", "--trials", "9", "--out", "o")


@pytest.fixture(scope="module")
def real(tiny: Path) -> Any:
    return sparsight.load(str(tiny), device="cpu")


@pytest.fixture(scope="module", autouse=True)
def careless() -> Iterator[None]:
    """No waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture
def left(real: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """`sparsight.load` gives a pretended model that answers so many questions before Ctrl-C; the
    folder at hand holds my.jsonl with questions about pictures."""
    left = [1_000_000]
    monkeypatch.setattr(sparsight, "load", lambda plan, **options: PretendedVLM(real, left))
    monkeypatch.chdir(tmp_path)
    lines = []
    for place in range(40):
        Image.new("RGB", (28, 28), (6 * place, 90, 30)).save(f"{place}.png")
        line = {"image": f"{place}.png", "question": f"Say {place}", "answer": str(place)}
        lines.append(json.dumps(line))
    Path("my.jsonl").write_text("\n".join(lines))
    return left


def test_it_finds_a_plan_and_writes_what_it_measured(left: list[int], cli: Runner):
    code, out, err = cli("tune", *OPTIONS, "--keep-accuracy", "0.9")
    assert code == 0, err
    assert out.startswith("best plan: ")
    assert "on 20 held-out questions: keeps" in out
    assert {item.name for item in Path("o").iterdir()} == {
        "plan.yaml", "front.json", "report.md", "report.html", "records", "settings.json",
        "clock.json",
    }  # fmt: skip
    found = json.loads(Path("o/front.json").read_text())
    plan = Plan.load("o/plan.yaml")
    assert plan.systems
    assert found["satisfied"] is True
    assert found["seed"] == 0
    assert {"cpu", "versions"} <= set(found["machine"])
    assert found["chosen"] in Path("o/report.md").read_text()
    assert "the cheapest plan that keeps 90 %" in Path("o/report.html").read_text()
    assert "wrote plan.yaml, front.json, report.md, report.html in o" in err


def test_every_trial_is_a_line(left: list[int], cli: Runner):
    _, _, err = cli("tune", *OPTIONS)
    lines = err.splitlines()
    assert lines[0] == "20 questions to tune on, 20 held out; systems searched: 2, left out: 0"
    assert "the plain model" in lines[1]
    assert all(f" {number}  " in line for number, line in enumerate(lines[1:11]))
    assert "% right of 20" in lines[1]
    assert "10 plans tried; now the held-out questions" in err
    assert "\x1b" not in err


def test_the_plan_serves_ask(
    left: list[int], cli: Runner, real: Any, monkeypatch: pytest.MonkeyPatch
):
    assert cli("tune", *OPTIONS, "--keep-accuracy", "0.9")[0] == 0
    loaded: list[Plan] = []

    def load(plan: Plan, **options: Any) -> Any:
        loaded.append(plan)
        return real.planned(plan)

    monkeypatch.setattr(sparsight, "load", load)
    code, _, err = cli("ask", "1.png", "Say 1", "--plan", "o/plan.yaml", "--max-tokens", "2")
    assert code == 0, err
    assert loaded[0].systems == Plan.load("o/plan.yaml").systems


def test_nothing_satisfies_the_goal(left: list[int], cli: Runner):
    """Exit code 1, how close it came, and the files."""
    code, out, err = cli("tune", *OPTIONS, "--max-visual-tokens", "1")
    assert code == 1
    assert out.startswith("nothing satisfies the goal: the most accurate plan, within max-visual")
    assert "nearest: " in out
    assert "NOTHING SATISFIED THE GOAL" in Path("o/plan.yaml").read_text()
    assert json.loads(Path("o/front.json").read_text())["front"]
    assert "Traceback" not in err


def test_ctrl_c_leaves_with_130_and_the_same_command_goes_on(left: list[int], cli: Runner):
    whole = cli("tune", *OPTIONS, "--keep-accuracy", "0.9")[1]
    first = Path("o/plan.yaml").read_text()
    left[0] = 60
    again = [*OPTIONS[:-1], "p"]
    code, out, err = cli("tune", *again, "--keep-accuracy", "0.9")
    assert (code, out) == (130, "")
    assert err.endswith("the same command goes on from here\nsparsight: stopped\n")
    left[0] = 1_000_000
    code, out, _ = cli("tune", *again, "--keep-accuracy", "0.9")
    assert (code, out) == (0, whole)
    assert Path("p/plan.yaml").read_text() == first


def test_lines_that_cannot_be_used_are_named_and_counted(left: list[int], cli: Runner):
    with Path("my.jsonl").open("a") as file:
        file.write('\n{"image": "gone.png", "question": "Say 1", "answer": "1"}\nnonsense\n')
    code, _, err = cli("tune", *OPTIONS, "--keep-accuracy", "0.9")
    assert code == 0
    assert "my.jsonl, line 41: " in err
    assert "gone.png" in err
    assert "2 of 42 lines cannot be used" in err


def test_time_ends_the_search(left: list[int], cli: Runner):
    """The records are there, so the finished part stands, and the rest is not begun."""
    assert cli("tune", *OPTIONS, "--keep-accuracy", "0.9")[0] == 0
    Path("o/clock.json").write_text('{"seconds": 1000000}')
    options = [item for item in OPTIONS if item not in ("--trials", "9")]
    code, _, err = cli("tune", *options, "--keep-accuracy", "0.9", "--time", "1m")
    assert code == 0, err
    assert "10 plans tried: the time is up; now the held-out questions" in err


def test_a_schedule_is_searched_by_its_papers_own_search(left: list[int], cli: Runner):
    options = ("--data", "my.jsonl", "--search", "gsearch", "--out", "o")
    code, out, err = cli("tune", *options, "--keep-accuracy", "0.9")
    assert code == 0, err
    assert out.startswith("best plan: gsearch ")
    assert Plan.load("o/plan.yaml").systems[0].schedule[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "o"], "say what to ask: either --tasks color,move or --data my.jsonl"),
        (["--out", "o", "--tasks", "color", "--data", "my.jsonl"], "either --tasks"),
        (["--out", "o", "--data", "gone.jsonl"], "gone.jsonl cannot be read"),
        (["--out", "o", "--tasks", "colour"], "unknown task 'colour'; did you mean 'color'"),
        ([*OPTIONS, "--keep-accuracy", "98"], "--keep-accuracy 98: give a share above 0"),
        ([*OPTIONS, "--max-first-token", "200"], "give a time with its unit, such as 200ms"),
        ([*OPTIONS, "--max-kv", "64"], "give bytes with their unit, such as 64MB"),
        ([*OPTIONS, "--time", "20"], "--time 20: give a time with its unit, such as 200ms"),
        ([*OPTIONS, "--systems", "fastvv"], "unknown system 'fastvv'; did you mean 'fastv'"),
        ([*OPTIONS, "--systems", "evs"], "no system is left to search: evs works on films"),
        ([*OPTIONS, "--frames", "some"], "some"),
        ([*OPTIONS, "--count", "10"], "5 questions to tune on and 5 held out are too few"),
        ([*OPTIONS, "--trials", "0"], "'--trials'"),
        ([*OPTIONS, "--search", "best"], "unknown search 'best' (known: gsearch, plans)"),
        ([*OPTIONS, "--search", "gsearch"], "leave out --systems"),
        (["--data", "my.jsonl", "--out", "o", "--search", "gsearch"], "give --keep-accuracy"),
        (["--data", "my.jsonl"], "'--out'"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, left: list[int], cli: Runner):
    left[0] = 0
    code, out, err = cli("tune", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert err.startswith("sparsight: ")


def test_the_embedded_model_is_tuned_on_the_world(
    cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sparsight.cli.tune._EXAMPLES", 0)
    code, out, err = cli(
        "tune", "--tasks", "color", "--count", "32", "--systems", "uniform", "--trials", "1",
        "--max-visual-tokens", "144", "--out", "o", "--max-tokens", "8",
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("best plan: uniform keep=0.25\n")
    plan = Plan.load("o/plan.yaml")
    assert (plan.model, plan.frames) == ("mini", None)
    assert "wanted: at most 144" in out
