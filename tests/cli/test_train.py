"""`sparsight train`: a recipe file in, a folder out, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.cli.conftest import Runner

RECIPE = """
import os, signal
from tests.train.tiny import Letters, build, stage
from sparsight.train.recipe import Recipe
from letters import COUNT

class Interrupting(Letters):
    def __getitem__(self, index):
        if index == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(index)

def interrupting():
    return Interrupting()

def recipe():
    data = interrupting if os.environ.get("INTERRUPT") else Letters
    return Recipe("spelling", build, (stage(steps=COUNT), stage("more", data=data, steps=COUNT)))
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe file with a neighbour that it imports; the folder it lies in is at hand."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spell.py").write_text(RECIPE)
    (tmp_path / "letters.py").write_text("COUNT = 4\n")
    return "spell.py"


def test_a_recipe_becomes_a_model(file: str, cli: Runner, tmp_path: Path):
    code, out, err = cli("train", file, "--device", "cpu", "--set", "stages.spell.log_every=2")
    assert (code, out) == (0, "out/spelling/model\n"), err
    lines = err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "spell 2/4", "spell 4/4", "more 1/4", "more 2/4", "more 3/4", "more 4/4",
    ]  # fmt: skip
    assert all("samples/s" in line and "loss" in line for line in lines)
    assert "\x1b" not in err
    assert AutoModelForCausalLM.from_pretrained(tmp_path / out.strip()).config.vocab_size == 24
    assert list((tmp_path / "out/spelling/tensorboard").iterdir())


def test_it_stops_when_time_is_up_and_goes_on(file: str, cli: Runner):
    code, out, err = cli("train", file, "--out", "o", "--device", "cpu", "--minutes", "0")
    assert (code, out) == (0, "")
    assert "time is up after step 1 of stage spell; go on with --resume" in err
    code, out, err = cli("train", file, "--out", "o", "--device", "cpu")
    assert (code, out) == (2, "")
    assert err == "sparsight: o holds a run already: add --resume, or choose another folder\n"
    code, out, err = cli("train", file, "--out", "o", "--device", "cpu", "--resume")
    assert (code, out) == (0, "o/model\n"), err


def test_ctrl_c_saves_and_leaves_with_130(
    file: str, cli: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("INTERRUPT", "1")
    code, out, err = cli("train", file, "--out", "o", "--device", "cpu")
    assert (code, out) == (130, "")
    assert err.endswith("sparsight: stopped\n")
    [saved] = (tmp_path / "o/checkpoints").iterdir()
    assert saved.name in ("more-00000002", "more-00000003")


def test_only_the_named_stage_runs(file: str, cli: Runner):
    code, _, err = cli("train", file, "--device", "cpu", "--stage", "more")
    assert code == 0
    assert "spell" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.py"], "gone.py: there is no such recipe; give the path of a Python file"),
        (["letters.txt"], "letters.txt: a recipe is a Python file with a function recipe()"),
        (["letters.py"], "letters.py has no function recipe(): it must return a sparsight Recipe"),
        (["broken.py"], "broken.py fails at line 2: ZeroDivisionError: division by zero"),
        (["typo.py"], "typo.py fails at line 1: SyntaxError: "),
        (["number.py"], "recipe() of number.py returns int, not a Recipe"),
        (["spell.py", "--set", "stages.spell.step=3"], "did you mean 'steps'"),
        (["spell.py", "--set", "stages.spell.steps=x"], "must be a whole number, not 'x'"),
        (["spell.py", "--set", "steps"], "--set steps: write KEY=VALUE, such as"),
        (["spell.py", "--stage", "mor"], "unknown stage 'mor'; did you mean 'more'"),
        (["spell.py", "--device", "tpu"], "unknown device 'tpu'"),
        (["spell.py", "--minutes", "x"], "'--minutes'"),
        (["spell.py", "--out", "letters.py"], "letters.py is a file: choose a folder"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, file: str, cli: Runner):
    Path("letters.txt").touch()
    Path("broken.py").write_text("def recipe(): ...\n1 / 0\n")
    Path("typo.py").write_text("def recipe(:\n")
    Path("number.py").write_text("def recipe(): return 3\n")
    code, out, err = cli("train", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert err.startswith("sparsight: ")
