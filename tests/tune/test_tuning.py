"""Tuning from end to end on a pretended model: what is found, written, and gone on with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparsight.bench.store import Store
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.tune.clock import Clock
from sparsight.tune.compare import Comparison
from sparsight.tune.goals import Goal
from sparsight.tune.halves import Halves
from sparsight.tune.outcome import Outcome, saved_plan
from sparsight.tune.story import report, summary
from sparsight.tune.trials import words_of
from sparsight.tune.tuning import Request, tune
from sparsight.vlm.pipeline import VLM
from tests.tune.pretend import PretendedVLM, cost, items
from tests.vlm.tiny import movie

GOAL = Goal(keep_accuracy=0.9)
SYSTEMS = ("fastervlm", "tome")


@pytest.fixture(scope="module", autouse=True)
def careless() -> Iterator[None]:
    """No waiting for the disk: thousands of records are written here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield


class Note:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *found: self.told.append((name, found))


def tuned(
    vlm: VLM, out: Path, left: int = 1_000_000, note: Note | None = None, **settings: Any
) -> tuple[Outcome, Comparison, Halves]:
    asked = items(48, media=lambda place: lambda: movie(8, place % 3))
    request = Request(**{"goal": GOAL, "trials": 15, "systems": SYSTEMS, **settings})
    return tune(PretendedVLM(vlm, [left]), asked, request, out, note or Note())


@pytest.fixture(scope="module")
def found(
    careless: None, vlm: VLM, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, Path]:
    out = tmp_path_factory.mktemp("tuned")
    return tuned(vlm, out)[0], out


def test_the_chosen_plan_is_cheaper_than_the_best_single_system(found: tuple[Outcome, Path]):
    outcome, _ = found
    assert outcome.satisfied
    assert outcome.good
    assert outcome.single is not None
    assert cost(outcome.chosen.plan) < cost(outcome.single.plan) < 1
    assert len(outcome.chosen.plan.systems) + (outcome.chosen.plan.frames is not None) > 1


def test_final_figures_come_from_questions_that_were_not_tuned_on(vlm: VLM, tmp_path: Path):
    note = Note()
    _, comparison, cut = tuned(vlm, tmp_path, note=note, trials=8)
    held = [item.id for item in cut.held]
    assert all([r.item for r in records] == held for records in comparison.records.values())
    at = [name for name, _ in note.told].index("ended")
    tuned_on = {args[0].item for name, args in note.told[:at] if name == "answered"}
    assert tuned_on == {item.id for item in cut.tune}
    assert not tuned_on & set(held)


def test_the_baselines_stand_beside_the_chosen_plan_at_its_cost(found: tuple[Outcome, Path]):
    outcome, _ = found
    told = [item.label.partition(":")[0] for item in outcome.beside]
    missing = " ".join(outcome.impossible)
    assert all(
        name in told or name in missing for name in ("random", "uniform", "pool", "downsample")
    )
    if outcome.chosen.plan.frames is not None:
        assert f"frames {outcome.chosen.plan.frames}" in told + [i.label for i in outcome.beside]


def test_every_plan_of_the_front_has_its_interval(found: tuple[Outcome, Path]):
    outcome, _ = found
    assert outcome.front
    for item in outcome.finals:
        low, high = item.row.interval95
        assert low <= item.row.accuracy <= high
        assert item.figures.count == 24


def test_all_of_it_is_json_and_words(found: tuple[Outcome, Path]):
    outcome, _ = found
    told = json.loads(json.dumps(outcome.as_dict()))
    assert told["satisfied"] is True
    assert told["chosen"] in [item["label"] for item in told["plans"]]
    assert len(told["trials"]) == len(outcome.tried)
    text = report(outcome, {"model": "mini", "seed": "0"}, {"evs": "evs works on films"})
    for words in (
        "# mini: the cheapest plan that keeps 90 %",
        outcome.chosen.label,
        "best single system",
        "## What was tried",
        "evs works on films",
    ):
        assert words in text
    assert summary(outcome)[0] == f"best plan: {outcome.chosen.label}"


def test_the_saved_plan_is_the_chosen_one(found: tuple[Outcome, Path], tmp_path: Path):
    outcome, _ = found
    text = saved_plan(outcome, None)
    assert text.startswith("# Found by sparsight tune: the cheapest plan that keeps 90 %")
    assert Plan.from_yaml(text) == outcome.chosen.plan
    whole = dataclasses.replace(outcome, chosen=outcome.plain)
    assert Plan.from_yaml(saved_plan(whole, "uniform:16")).frames == "uniform:16"


def same(first: Outcome, second: Outcome) -> bool:
    """Whether two searches went and ended alike, but for what the clock says."""
    tried = [
        [(item.number, item.origin, item.plan, item.state, item.figures) for item in found.tried]
        for found in (first, second)
    ]
    finals = [[(i.label, i.figures) for i in found.finals] for found in (first, second)]
    return tried[0] == tried[1] and finals[0] == finals[1]


@pytest.mark.parametrize("left", [10, 150, 380])
def test_an_interrupted_run_goes_on_to_the_same_result(
    found: tuple[Outcome, Path], vlm: VLM, tmp_path: Path, left: int
):
    """In the plain model's answers, in the search, and in the held-out questions."""
    with pytest.raises(KeyboardInterrupt):
        tuned(vlm, tmp_path, left)
    assert (tmp_path / "clock.json").exists()
    assert same(tuned(vlm, tmp_path)[0], found[0])


def test_a_finished_run_asks_nothing_again_and_more_trials_go_on(
    found: tuple[Outcome, Path], vlm: VLM
):
    outcome, out = found
    assert same(tuned(vlm, out, left=0)[0], outcome)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"goal": Goal(keep_accuracy=0.8)}, "goal"),
        ({"seed": 1}, r"seed \(0, now 1\)"),
        ({"systems": ("fastv",)}, "space"),
        ({"most": 40}, "questions"),
        ({"max_tokens": 4}, "max_tokens"),
    ],
)
def test_a_folder_of_another_search_is_refused(
    found: tuple[Outcome, Path], vlm: VLM, settings: dict, name: str
):
    with pytest.raises(UserError, match=f"holds a search with another {name}: give another folder"):
        tuned(vlm, found[1], **settings)


def test_a_file_in_the_place_of_the_folder_is_refused(vlm: VLM, tmp_path: Path):
    (tmp_path / "taken").touch()
    with pytest.raises(UserError, match=r"taken cannot be made \(file exists\)"):
        tuned(vlm, tmp_path / "taken")


def test_the_store_is_free_again_after_an_error(vlm: VLM, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        tuned(vlm, tmp_path, left=5)
    Store(tmp_path / "records").close()


def test_nothing_satisfies_the_goal(vlm: VLM, tmp_path: Path):
    outcome, _, _ = tuned(vlm, tmp_path, goal=Goal(max_visual_tokens=2), trials=12)
    assert not outcome.satisfied
    assert not outcome.good
    lines = summary(outcome)
    assert (
        lines[0] == "nothing satisfies the goal: the most accurate plan, within max-visual-tokens 2"
    )
    assert lines[1].startswith(f"nearest: {outcome.chosen.label}: max-visual-tokens ")
    assert len(outcome.front) > 1
    assert "NOTHING SATISFIED THE GOAL" in saved_plan(outcome, None)
    assert "comes nearest" in report(outcome, {}, {})


def test_a_plan_that_was_lucky_is_refuted_by_the_held_out_questions(found: tuple[Outcome, Path]):
    outcome, _ = found
    figures = outcome.chosen.figures
    poor = dataclasses.replace(figures, hits=tuple([False] * 15 + list(figures.hits[15:])))
    lucky = dataclasses.replace(outcome, chosen=dataclasses.replace(outcome.chosen, figures=poor))
    assert lucky.satisfied
    assert lucky.refuted
    assert not lucky.good
    assert any("it was lucky" in line for line in summary(lucky))
    assert "DOES NOT SATISFY" in saved_plan(lucky, None)


# Searches of single papers


def test_heads_that_yopo_may_skip_are_found_once_and_kept(
    vlm: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    note = Note()
    first, _, _ = tuned(vlm, tmp_path, note=note, systems=("yopo",), trials=4)
    kept = json.loads((tmp_path / "heads.json").read_text())
    [(space, _)] = [args for name, args in note.told if name == "ready"]
    found = space.ranges["yopo"]["skip"].choices
    assert list(map(list, found)) == kept
    assert found[0] == ()
    assert len(found[1]) < len(found[-1])
    assert space.plan(space.empty() | {"inside": "yopo", "yopo.skip": "2,1,3,0"}).systems[0].skip

    def never(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("sparsight.tune.tuning.measure", never)
    assert same(tuned(vlm, tmp_path, systems=("yopo",), trials=4)[0], first)
    (tmp_path / "heads.json").write_text("[")
    with pytest.raises(UserError, match=r"heads.json is broken: give another folder"):
        tuned(vlm, tmp_path, systems=("yopo",), trials=4)


def test_the_schedule_of_g_search_is_a_plan(vlm: VLM, tmp_path: Path):
    outcome, _, _ = tuned(vlm, tmp_path, search="gsearch", systems=None, trials=1000)
    assert outcome.satisfied
    [system] = Plan.from_yaml(saved_plan(outcome, None)).systems
    assert len(system.schedule) == len(vlm.family.decoder.layers)
    assert min(system.schedule) < 1
    assert "schedules of G-Search" in report(outcome, {}, {})


# The clock


def test_seconds_add_up_over_runs_and_the_reserve_is_left(tmp_path: Path):
    now = [100.0]
    clock = Clock(tmp_path / "clock.json", 60, now=lambda: now[0])
    now[0] += 25
    assert (clock.spent, clock.is_up) == (25, False)
    clock.save()
    again = Clock(tmp_path / "clock.json", 60, now=lambda: now[0])
    now[0] += 30
    assert again.spent == 55
    assert not again.is_up
    again.reserve = 10
    assert again.is_up
    assert not Clock(tmp_path / "clock.json", now=lambda: now[0]).is_up


def test_a_broken_clock_file_starts_at_nothing(tmp_path: Path):
    (tmp_path / "clock.json").write_text("{")
    assert Clock(tmp_path / "clock.json", 60).spent < 1


def test_with_no_time_left_what_is_known_is_finished(found: tuple[Outcome, Path], vlm: VLM):
    """All answers of the search are there, so that its end is the same at once."""
    outcome, out = found
    (out / "clock.json").write_text('{"seconds": 1000000}')
    again, _, _ = tuned(vlm, out, time=60.0, trials=1000)
    assert [words_of(i.plan) for i in again.tried] == [words_of(i.plan) for i in outcome.tried]
