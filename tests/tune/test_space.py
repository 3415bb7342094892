"""What a search may try, read from the catalogue's declarations."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

import sparsight.systems
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import Knob, build, entries
from sparsight.core.slots import needs_of, slots_of
from sparsight.tune.declared import range_of, space_for
from sparsight.tune.space import NONE, Space
from tests.tune.pretend import DEPTH, space

sparsight.systems.load()


def on(
    kinds: set[str],
    *names: str,
    supplies: set[str] | None = None,
    depth: int = DEPTH,
    base: Plan | None = None,
    selection: str | None = "uniform:8",
) -> Space:
    """A space on a model of so many layers that supplies these needs (None: all)."""

    def planned(plan: Plan) -> None:
        for system in plan.systems:
            for need in needs_of(system):
                if supplies is not None and need.name not in supplies:
                    raise UserError(f"{system.system_name} needs {need.name}")
            if "inside" in slots_of(system):
                system.edits(depth)

    return space_for(
        planned, base or Plan(), depth=depth, kinds=kinds, selection=selection, names=names or None
    )


def drawn(space: Space, count: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Parameters that a random sampler draws."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found = []
    for _ in range(count):
        trial = study.ask()
        found.append(space.suggest(trial))
        study.tell(trial, 0.0)
    return found


# From declarations to ranges


@pytest.mark.parametrize(
    ("knob", "low", "high", "log"),
    [
        (Knob("keep", "budget", 0.25, ""), 0.02, 0.9, True),
        (Knob("keep", "budget", 144, ""), 0.02, 0.9, True),
        (Knob("keep", "float", 0.5, "", low=0, high=1), 0.02, 0.9, True),
        (Knob("layer", "int", 2, "", low=1), 1, 7, False),
        (Knob("stride", "int", 8, "", low=1), 2, 32, True),
        (Knob("grids", "int", 1, "", low=0), 0, 4, False),
        (Knob("beta", "float", 0.6, "", low=0, high=1), 0, 1, False),
        (Knob("tau", "float", 0.8, "", low=-1, high=1), 0.4, 1, False),
        (Knob("alike", "float", 0.9, "", high=1), 0.7, 1, False),
        (Knob("steepness", "float", 0.5, "", low=0.001), 0.125, 2, True),
    ],
)
def test_a_range_follows_from_the_declaration(knob: Knob, low: float, high: float, log: bool):
    found = range_of(knob, knob.default, depth=8)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.log is log
    assert found.low <= found.usual <= found.high


@pytest.mark.parametrize(
    "knob",
    [
        Knob("seed", "int", 0, "", low=0),
        Knob("compat", "bool", False, ""),
        Knob("names", "str", "model", ""),
        Knob("schedule", "floats", (), ""),
        Knob("layers", "ints", (3, 7, 16), "", low=1),
        Knob("stretch", "float", 0.0, "", low=0),
    ],
)
def test_what_has_no_range_stays_as_declared(knob: Knob):
    assert range_of(knob, knob.default, depth=32) is None


def test_a_shape_is_searched_by_parts_of_the_declared_one():
    found = range_of(Knob("shape", "ints", (16, 12, 12), "", low=1), (16, 12, 12), depth=8)
    assert found is not None
    assert found.choices[0] == (16, 12, 12)
    assert (8, 6, 6) in found.choices


def test_every_declared_knob_of_the_catalogue_gets_a_range_it_allows():
    found = on({"film"})
    for name, ranges in found.ranges.items():
        usual = {**found.fixed[name], **{knob: item.usual for knob, item in ranges.items()}}
        for knob, item in ranges.items():
            for value in item.choices or (item.at(item.low), item.at(item.high)):
                build(name, {**usual, knob: value})


def test_the_whole_catalogue_is_searched_on_films_but_for_what_the_model_refuses():
    found = on({"film"})
    assert set(found.systems) | set(found.left_out) == set(entries())
    assert {"holitom", "fastv", "tome", "gsearch", "yopo", "ts-llava"} <= set(found.systems)


# What fits the model and the media


def test_layers_beyond_a_shallow_model_move_in_proportion():
    found = on({"film"}, "prunevid", "sparsevlm", "fastv")
    assert found.ranges["prunevid"]["layer"].usual == round(11 * DEPTH / 32)
    assert found.fixed["sparsevlm"] == {"layers": (1, 2, 4)}
    assert found.ranges["fastv"]["layer"].usual == 2
    assert found.ranges["fastv"]["layer"].high == DEPTH - 1


def test_a_model_without_cls_is_searched_with_the_documented_substitute():
    found = on({"film"}, "fastervlm", "hired", supplies={"received_attention"})
    assert list(found.systems) == ["fastervlm", "hired"]
    assert found.fixed["fastervlm"] == {"score": "received"}
    assert "score" not in found.ranges["fastervlm"]
    assert found.alone("fastervlm")["reduce"] == "fastervlm"
    assert found.plan(found.alone("fastervlm")).systems[0].score == "received"


def test_what_the_model_cannot_supply_is_left_out_with_its_reason():
    found = on({"picture"}, "uniform", "tome", supplies=set())
    assert list(found.systems) == ["uniform"]
    assert found.left_out == {"tome": "tome needs tower_blocks"}


def test_systems_for_films_are_left_out_where_there_are_pictures():
    assert "evs" in on({"film"}, "evs", "uniform").systems
    for kinds in ({"picture"}, {"picture", "film"}):
        found = on(kinds, "evs", "uniform")
        assert found.left_out["evs"] == "evs works on films, and there are pictures"


def test_the_least_budget_is_the_least_that_runs():
    """The sigmoid's floor takes more than a share of 0.02 alone."""
    low = on({"film"}, "gsearch").ranges["gsearch"]["keep"].low
    shares = (1 + (DEPTH - 1) * 0.05) / DEPTH
    assert shares <= low < shares + 0.01


def test_unknown_names_and_an_empty_space_are_errors():
    with pytest.raises(UserError, match="unknown system 'fastvv'; did you mean 'fastv'"):
        on({"film"}, "fastvv")
    with pytest.raises(UserError, match="no system is left to search: evs works on films"):
        on({"picture"}, "evs")


def test_frames_are_searched_on_films_whose_selection_is_a_count():
    assert on({"film"}, "uniform", selection="centers:8").frames == ("centers", 8)
    assert on({"film"}, "uniform", selection="fps:1").frames is None
    assert on({"film"}, "uniform", selection="uniform:1").frames is None
    assert on({"picture"}, "uniform").frames is None


# What a trial chooses


def test_a_drawn_plan_fills_no_slot_twice_and_most_of_them_run():
    found = on({"film"})
    refused = most = 0
    for params in drawn(found, 200):
        assert all(params.get(slot, NONE) in (NONE, *found.of_slot(slot)) for slot in found.slots)
        try:
            most = max(most, len(found.plan(params).systems))
        except UserError:  # one knob of a system against another
            refused += 1
    assert most >= 3
    assert refused < 20


def test_a_system_of_several_slots_leaves_the_others_no_say():
    found = on({"film"}, "holitom", "fastv", "uniform")
    for params in drawn(found):
        names = [system.system_name for system in found.plan(params).systems]
        assert names in ([], ["holitom"], ["fastv"], ["uniform"], ["uniform", "fastv"])
        assert ("inside" in params) == (params["reduce"] != "holitom")


def test_frames_are_left_to_a_system_that_selects_them():
    found = on({"film"}, "ts-llava", "uniform")
    for params in drawn(found):
        assert ("frames" in params) == (params["select"] == NONE)
        plan = found.plan(params)
        assert plan.frames is None or not any("select" in slots_of(s) for s in plan.systems)


def test_knobs_are_searched_only_with_their_system_and_fine_ones_only_when_it_is_free():
    found = on({"film"}, "holitom", "uniform")
    seen = set()
    for params in drawn(found):
        for name in ("holitom", "uniform"):
            knobs = {key for key in params if key.startswith(f"{name}.")}
            assert bool(knobs) == (params["reduce"] == name)
        if params["reduce"] == "holitom":
            seen.add(params["holitom.free"])
            assert ("holitom.tau" in params) == params["holitom.free"]
            assert {"holitom.keep", "holitom.layer"} <= set(params)
    assert seen == {True, False}


def test_parameters_and_plans_say_the_same():
    found = on({"film"}, "holitom", "pllava", "uniform")
    plan = found.plan({"reduce": "holitom", "holitom.keep": 0.123456, "frames": 4})
    assert plan.systems == (build("holitom", {"keep": 0.123}),)
    assert plan.frames == "uniform:4"
    plan = found.plan({"connect": "pllava", "pllava.shape": "8,6,6", "reduce": NONE, "frames": 8})
    assert plan.systems == (build("pllava", {"shape": (8, 6, 6)}),)
    assert plan.frames is None


def test_a_plan_comes_back_from_its_file(tmp_path):
    found = on({"film"})
    for place, params in enumerate(drawn(found, 40)):
        try:
            plan = found.plan(params)
        except UserError:
            continue
        plan.save(tmp_path / f"{place}.yaml")
        assert Plan.load(tmp_path / f"{place}.yaml") == plan


def test_one_system_alone_is_at_its_usual_settings():
    found = space("fastv", "tome")
    assert found.plan(found.alone("fastv")).systems == (build("fastv", {}),)
    assert found.plan(found.alone("fastv", keep=0.1)).systems == (build("fastv", {"keep": 0.1}),)
    assert found.plan(found.empty()) == found.base
    assert found.budget("fastv") == "keep"
    assert found.budget("tome") == "r"
