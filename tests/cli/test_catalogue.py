"""`sparsight systems`, `sparsight models`, and the help."""

from __future__ import annotations

import json

import typer
from typer.testing import CliRunner

import sparsight
from sparsight.cli.commands import app
from sparsight.core.registry import entries
from sparsight.vlm.families import model_types
from tests.cli.conftest import Runner


def test_every_system_is_listed_with_its_slot(cli: Runner):
    code, out, _ = cli("systems")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert set(lines) == set(entries())
    assert "reduce" in lines["uniform"]
    assert "baseline" in lines["uniform"]
    listed = json.loads(cli("systems", "--json")[1])
    assert [item["name"] for item in listed] == list(entries())


def test_one_system_is_explained_with_its_knobs(cli: Runner):
    code, out, _ = cli("systems", "random")
    assert code == 0
    for words in (
        "random",
        "baseline",
        "seed of the choice",
        "a share above 0",
        "random:keep=0.25",
    ):
        assert words in out
    found = json.loads(cli("systems", "random", "--json")[1])
    assert found["slots"] == ["reduce"]
    assert [knob["name"] for knob in found["knobs"]] == ["keep", "seed"]


def test_every_system_can_be_explained_and_printed_as_json(cli: Runner):
    for name in entries():
        assert cli("systems", name)[0] == 0
        assert json.loads(cli("systems", name, "--json")[1])["name"] == name


def test_an_unknown_system_brings_the_nearest(cli: Runner):
    code, out, err = cli("systems", "unifrom")
    assert (code, out) == (2, "")
    assert "did you mean 'uniform'?" in err


def test_every_family_is_listed_with_what_it_supports(cli: Runner):
    code, out, _ = cli("models")
    assert code == 0
    found = json.loads(cli("models", "--json")[1])
    assert [item["model_type"] for item in found] == list(model_types())
    for item in found:
        assert item["label"] in out
        assert set(item["supports"]) == {"picture", "pictures", "film", "mixed"}
        for example in item["examples"]:
            assert example in out


def test_help_and_version(cli: Runner):
    assert cli()[1] == cli("--help")[1]
    assert cli("--version") == (0, sparsight.__version__ + "\n", "")
    runner = CliRunner()
    assert isinstance(app, typer.Typer)
    for command in ("ask", "see", "systems", "models", "demo"):
        done = runner.invoke(app, [command, "--help"])
        assert done.exit_code == 0
        assert "--debug" in done.output
