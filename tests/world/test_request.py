"""What is asked of the world: the same request, the same scenes and questions everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sparsight.core.errors import UserError
from sparsight.world.library import Library
from sparsight.world.request import RANGES, Asked, Request

ROOT = Path(__file__).resolve().parents[2]
PRINT_ALL = """
import hashlib
from sparsight.world.library import Library
from sparsight.world.request import Request
from sparsight.world.tasks import TASKS
asks = [Request("test", task, count=8) for task in TASKS]
asks += [Request("combos", None, count=8), Request("val", None, count=8, turns=4)]
for ask in asks:
    print(ask.task, hashlib.sha256(repr(list(ask.asked(Library()))).encode()).hexdigest())
"""


def asked(request: Request) -> list[Asked]:
    return list(request.asked(Library()))


def test_questions_do_not_depend_on_how_python_hashes() -> None:
    """Sets of words come in another order in every process; the world must not show it."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT_ALL],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (run.communicate()[0].splitlines() for run in runs)
    assert len(first) == len(second) > 10
    assert [
        line.split()[0] for line, other in zip(first, second, strict=True) if line != other
    ] == []


@pytest.mark.parametrize("task", ["move", None])
def test_a_higher_count_begins_with_the_same_scenes(task: str | None) -> None:
    few = Request("test", task, count=3)
    assert asked(replace(few, count=5))[:3] == asked(few)


@pytest.mark.parametrize("task", ["color", None])
def test_other_seeds_and_splits_give_other_scenes(task: str | None) -> None:
    base = Request("test", task, count=2)
    others = [replace(base, seed=1), replace(base, split="val")]
    assert all(asked(other)[0].scene != asked(base)[0].scene for other in others)


def test_scenes_are_as_they_are_asked_for() -> None:
    for item in asked(Request("val", None, count=4, frames=12, fps=3.0, aspect=1.5, side=64)):
        assert (item.scene.frames, item.scene.fps, item.scene.aspect) == (12, 3.0, 1.5)
        assert item.scene.split == "val"


def test_a_task_has_the_frames_that_suit_it() -> None:
    assert Request(task="color").length == 1
    assert Request(task="needle").length == 64
    assert Request(task="needle", frames=9).length == 9
    assert Request().length > 1


def test_choices_are_given_to_mixtures_as_well() -> None:
    (item,) = asked(Request("val", None, frames=1, form="choice"))
    assert {question.form for question in item.questions} == {"choice"}


def test_a_conversation_has_at_most_the_turns_asked_for() -> None:
    sizes = {len(item.questions) for item in asked(Request("val", count=5, frames=1, turns=3))}
    assert max(sizes) == 3


def test_scenes_too_short_for_their_task_are_named() -> None:
    with pytest.raises(UserError, match="frames"):
        list(islice(Request(task="order", frames=1).asked(Library()), 1))


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("end", [0, 1])
def test_a_number_out_of_range_is_named(name: str, end: int) -> None:
    bound = RANGES[name][end]
    beyond = bound + (1 if end else -1) * (0.01 if isinstance(bound, float) else 1)
    with pytest.raises(UserError, match=f"{name} must be from"):
        Request(**{name: beyond})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_out_of_range(value: float) -> None:
    with pytest.raises(UserError, match="aspect must be"):
        Request(aspect=value)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [({"task": "neddle"}, "needle"), ({"split": "tests"}, "test"), ({"form": "choices"}, "choice")],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: dict[str, str], near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        Request(**wrong)  # type: ignore[arg-type]


def test_choices_in_a_conversation_are_refused() -> None:
    with pytest.raises(UserError, match="open"):
        Request(form="choice", turns=2)


@pytest.mark.parametrize("aspect", [0.25, 0.3, 0.75, 1, 4 / 3, 16 / 9, 3.99, 4])
@pytest.mark.parametrize("side", [64, 224, 1344])
def test_films_of_any_aspect_have_even_sizes(aspect: float, side: int) -> None:
    shape = Request(aspect=aspect, side=side).shape
    longer = side * max(shape, 1 / shape)
    assert round(longer) % 2 == 0
    assert longer == pytest.approx(round(longer))
    assert abs(longer - side * max(aspect, 1 / aspect)) <= 1
    assert 0.25 <= shape <= 4
