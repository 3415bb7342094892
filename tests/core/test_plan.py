from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sparsight.systems
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan, parse_system
from sparsight.core.registry import build

sparsight.systems.load()


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        Plan.from_yaml(text, "plan.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plan_is_read_from_yaml() -> None:
    plan = Plan.from_yaml(
        "model: some/model\nframes: uniform:16\nseed: 3\n"
        "systems:\n- fastervlm: {keep: 144}\n- fastv: {keep: 0.5, layer: 3}\n- tome\n"
    )
    assert plan == Plan(
        "some/model",
        (
            build("fastervlm", {"keep": 144}),
            build("fastv", {"keep": 0.5, "layer": 3}),
            build("tome", {}),
        ),
        "uniform:16",
        3,
    )


def test_a_plan_with_no_systems_is_the_plain_model() -> None:
    assert Plan.from_yaml("{}") == Plan() == Plan.from_yaml("model: mini\nsystems:\n")


@given(
    keep=st.floats(0, 1, exclude_min=True) | st.integers(1, 10**6),
    inflection=st.floats(-1, 1),
    shape=st.tuples(*[st.integers(1, 100)] * 3),
    seed=st.integers(0, 2**63),
    model=st.text("ab/.-_ :#'\"\n\\é", max_size=8),
    frames=st.none() | st.just("fps:0.5"),
)
def test_a_plan_survives_yaml_bit_for_bit(
    keep: float | int,
    inflection: float,
    shape: tuple[int, ...],
    seed: int,
    model: str,
    frames: str | None,
) -> None:
    systems = (
        build("fastervlm", {"keep": keep}),
        build("tome", {"inflection": inflection}),
        build("pllava", {"shape": shape}),
    )
    plan = Plan(model, systems, frames, seed)
    again = Plan.from_yaml(plan.to_yaml())
    assert again == plan
    assert type(again.systems[0].keep) is type(keep)
    assert again.to_yaml() == plan.to_yaml()


def test_a_plan_is_saved_and_loaded(tmp_path: Path) -> None:
    plan = Plan("é/m", (build("pllava", {"shape": "4,2,2"}),), "uniform:4", 7)
    plan.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "plan.yaml is not valid YAML at line 1"),
        ("model: mini\nsystems: - {\n", "plan.yaml is not valid YAML at line 2"),
        ("just text", "plan.yaml must be a mapping with the keys model and systems"),
        ("[]", "plan.yaml must be a mapping with the keys model and systems"),
        ("", "plan.yaml must be a mapping with the keys model and systems"),
        ("modle: mini", "unknown key in plan.yaml: 'modle'; did you mean 'model'?"),
        ("3: mini", "unknown key in plan.yaml: '3'"),
        ("model: 3", "plan.yaml: model must be text, not 3"),
        ("frames: 8", "plan.yaml: frames must be text, not 8"),
        ("seed: true", "plan.yaml: seed must be a whole number, not True"),
        ("seed: 1.5", "plan.yaml: seed must be a whole number, not 1.5"),
        ("systems: fastv", "plan.yaml: systems must be a list"),
        ("systems: {fastv: {}}", "plan.yaml: systems must be a list"),
        ("systems: [3]", "plan.yaml: each system is a name, or one name with its knobs"),
        ("systems: [{fastv: {}, tome: {}}]", "plan.yaml: each system is a name, or one name"),
        ("systems: [{fastv: 3}]", "plan.yaml: the knobs of fastv must be a mapping"),
        ("systems: [{fastv: {3: 4}}]", "unknown knob of fastv '3'"),
        ("systems: [{fastv: {keep: two}}]", "fastv: keep='two' is not allowed"),
        ("systems: [fastw]", "unknown system 'fastw'; did you mean 'fastv'?"),
        ("systems: [fastv, fastv]", "fastv and fastv both fill the slot 'inside'"),
    ],
)
def test_a_wrong_plan_is_one_line_that_says_where(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_yaml_cannot_make_objects() -> None:
    assert "not valid YAML" in refusal("model: !!python/object/apply:os.getcwd []")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the plan .*none\.yaml: No such file"):
        Plan.load(tmp_path / "none.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not a text file"):
        Plan.load(tmp_path / "plan.yaml")


def test_two_systems_in_one_slot_are_refused_by_name() -> None:
    plan = Plan().using(build("fastervlm", {}))
    with pytest.raises(UserError) as caught:
        plan.using(build("pool", {}))
    assert str(caught.value) == ("pool and fastervlm both fill the slot 'reduce': use one of them")


def test_using_leaves_the_plan_as_it_was() -> None:
    plan = Plan()
    assert plan.using(build("tome", {})).systems == (build("tome", {}),)
    assert plan.systems == ()


@pytest.mark.parametrize(
    ("text", "system", "knobs"),
    [
        ("fastervlm", "fastervlm", {}),
        ("fastervlm:", "fastervlm", {}),
        ("fastervlm:keep=0.5", "fastervlm", {"keep": 0.5}),
        (" fastervlm : keep = 12 , score = cls", "fastervlm", {"keep": 12, "score": "cls"}),
        ("pllava:shape=16,12,12,frames=4", "pllava", {"shape": (16, 12, 12), "frames": 4}),
        ("pllava:frames=4,shape=2,3,4", "pllava", {"shape": (2, 3, 4), "frames": 4}),
    ],
)
def test_a_system_is_read_from_text(text: str, system: str, knobs: dict) -> None:
    assert parse_system(text) == build(system, knobs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown system ''"),
        ("fastervlm:0.5", "cannot read 'fastervlm:0.5': write NAME:knob=value,knob=value"),
        ("fastervlm:kep=1", "unknown knob of fastervlm 'kep'; did you mean 'keep'?"),
        ("fastervlm:keep=0.5,0.6", "fastervlm: keep='0.5,0.6' is not allowed"),
        ("fastervlm:keep=", "fastervlm: keep='' is not allowed"),
        ("pllava:shape=16,12", "pllava: shape=(16, 12) must be three numbers"),
    ],
)
def test_text_that_names_no_system_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_system(text)
    assert str(caught.value).startswith(message)
