"""`sparsight ask`: parsing, printing, and a real model behind it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sparsight.core.plan import Plan
from tests.cli.conftest import FakeVLM, Runner


def test_the_answer_goes_to_stdout_and_nothing_else_does(fake: FakeVLM, cli: Runner):
    fake.pieces = [" It ", "is ", "red."]
    assert cli("ask", "film.mp4", "What colour?") == (0, "It is red.\n", "")
    media, question, options = fake.asked[0]
    assert (media, question, options["max_tokens"]) == (["film.mp4"], "What colour?", 128)


def test_several_media_come_before_the_question(fake: FakeVLM, cli: Runner):
    url = "https://example.org/a.png"
    assert cli("ask", "film.mp4", url, "What?", "--max-tokens", "5")[0] == 0
    assert fake.asked[0][0] == ["film.mp4", url]
    assert fake.asked[0][2]["max_tokens"] == 5


def test_options_make_the_plan(fake: FakeVLM, cli: Runner):
    code, _, err = cli(
        "ask", "film.mp4", "What?", "--model", "some/model", "--frames", "fps:1", "--seed", "3",
        "-s", "uniform:keep=16", "--device", "cpu", "--dtype", "bfloat16",
    )  # fmt: skip
    assert code == 0, err
    assert fake.loaded is not None
    plan, options = fake.loaded
    assert (plan.model, plan.frames, plan.seed) == ("some/model", "fps:1", 3)
    assert [(item.system_name, item.keep) for item in plan.systems] == [("uniform", 16)]
    assert options == {"device": "cpu", "dtype": "bfloat16"}


def test_options_go_on_top_of_a_plan_file(fake: FakeVLM, cli: Runner):
    Path("plan.yaml").write_text(
        "model: some/model\nframes: all\nsystems: [uniform: {keep: 0.5}]\nseed: 9\n"
    )
    assert cli("ask", "film.mp4", "What?", "--plan", "plan.yaml", "--frames", "uniform:4")[0] == 0
    assert fake.loaded is not None
    plan = fake.loaded[0]
    assert isinstance(plan, Plan)
    assert (plan.model, plan.frames, plan.seed) == ("some/model", "uniform:4", 9)
    assert plan.systems[0].keep == 0.5


def test_json_is_one_object_and_the_only_thing_on_stdout(fake: FakeVLM, cli: Runner):
    code, out, err = cli("ask", "film.mp4", "What?", "--json", "--profile", "-s", "random")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["text"] == "It is red."
    assert found["question"] == "What?"
    assert found["media"] == ["film.mp4"]
    assert found["plan"]["systems"] == [{"random": {"keep": 0.25, "seed": 0}}]
    assert found["usage"]["visual_kept"] == 16
    assert found["timing"]["stages"]["encode"] == 0.25
    assert found["flops"]["total"] == 2e9 + 3.5e9 + 1e6


def test_the_profile_goes_to_stderr_with_every_cost(fake: FakeVLM, cli: Runner):
    code, out, err = cli("ask", "film.mp4", "What?", "--profile")
    assert (code, out) == (0, "It is red.\n")
    rows = [re.split(r"\s{2,}", line.strip()) for line in err.splitlines()]
    for row in (
        ["encode", "250.0 ms", "28%"],
        ["decode steps", "100.0 ms", "11%, 20.0 tokens a second"],
        ["first token", "800.0 ms"],
        ["visual tokens seen", "64"],
        ["visual tokens kept", "16", "25.0%"],
        ["mean over layers", "12.5"],
        ["FLOPs, prefill", "3.5 GFLOP"],
        ["key-value cache", "3.0 MiB"],
    ):
        assert row in rows


def test_an_answer_cannot_steer_the_terminal(fake: FakeVLM, cli: Runner):
    fake.pieces = ["\x1b[31mred\x07", "\nline"]
    assert cli("ask", "film.mp4", "What?")[1] == "[31mred\nline\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["film.mp4"], "name a picture or film, then the question"),
        (["film.mp4", "  "], "the question is empty"),
        (["gone.mp4", "What?"], "gone.mp4: there is no such file"),
        (["film.mp4", "What?", "-s", "unifrm"], "did you mean 'uniform'?"),
        (["film.mp4", "What?", "-s", "uniform:kep=1"], "did you mean 'keep'?"),
        (["film.mp4", "What?", "-s", "uniform:keep=0"], "keep='0' is not allowed"),
        (["film.mp4", "What?", "-s", "uniform", "-s", "random"], "both fill the slot 'reduce'"),
        (["film.mp4", "What?", "--frames", "unifom:8"], "unknown frame selection"),
        (["film.mp4", "What?", "--plan", "gone.yaml"], "cannot read the plan gone.yaml"),
        (["film.mp4", "What?", "--max-tokens", "0"], "max-tokens"),
        (["film.mp4", "What?", "--max-token", "1"], "see sparsight ask --help"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2_before_a_model_is_loaded(
    fake: FakeVLM, cli: Runner, arguments: list[str], words: str
):
    code, out, err = cli("ask", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("sparsight: ")
    assert err.count("\n") == 1
    assert fake.loaded is None


def test_a_real_model_answers(tiny: Path, picture: Path, cli: Runner):
    code, out, err = cli(
        "ask", str(picture), "What is it?", "--model", str(tiny), "--max-tokens", "3",
        "--system", "random:keep=0.5", "--json", "--device", "cpu",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["plan"]["model"] == str(tiny)
    assert (found["usage"]["visual_seen"], found["usage"]["visual_kept"]) == (16, 8)
    assert len(found["tokens"]) == 3
    assert found["finish"] == "length"
    streamed = cli(
        "ask", str(picture), "What is it?", "--model", str(tiny), "--max-tokens", "3",
        "--system", "random:keep=0.5", "--device", "cpu",
    )  # fmt: skip
    assert streamed[0] == 0
    assert streamed[1].strip() == found["text"]
