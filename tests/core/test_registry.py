from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

import sparsight.core.registry as registry
from sparsight.core.errors import UserError
from sparsight.core.registry import Budget, build, count_of, entries, entry, knob, system


@dataclass(frozen=True)
class Sample:
    """One knob of every type."""

    keep: Budget = knob(0.25, "what stays", per="view")
    layer: int = knob(2, "where", low=1, high=9)
    share: float = knob(0.5, "how much", low=0, high=1)
    fast: bool = knob(True, "whether")
    how: Literal["mean", "max"] = knob("mean", "in which way", choices=("mean", "max"))
    shape: tuple[int, ...] = knob((2, 3), "the shape", low=1)
    shares: tuple[float, ...] = knob((), "the shares", low=0, high=1)

    def check(self) -> None:
        if self.layer == 7:
            raise UserError("sample: layer=7 is taken")

    def reduce(self, tokens: Any, request: Any) -> Any:
        return tokens


@pytest.fixture(autouse=True)
def sample(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sample system alone in the catalogue."""
    monkeypatch.setattr(registry, "_CATALOGUE", {})
    system("sample", title="for tests", paper="none", official=["a figure"])(Sample)
    yield
    del Sample.system_name  # type: ignore[attr-defined]


def made(**knobs: Any) -> Any:
    return build("sample", knobs)


def refused(**knobs: Any) -> str:
    with pytest.raises(UserError) as caught:
        made(**knobs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_system_without_knobs_has_its_defaults() -> None:
    assert made() == Sample()


def test_the_catalogue_says_what_was_declared() -> None:
    found = entries()["sample"]
    assert (found.title, found.paper, found.group) == ("for tests", "none", "system")
    assert (found.summary, found.official) == ("One knob of every type.", ("a figure",))
    assert found.slots == ("reduce",)
    assert {name: item.type for name, item in found.knobs.items()} == {
        "keep": "budget",
        "layer": "int",
        "share": "float",
        "fast": "bool",
        "how": "str",
        "shape": "ints",
        "shares": "floats",
    }
    assert [item.default for item in found.knobs.values()] == [
        0.25,
        2,
        0.5,
        True,
        "mean",
        (2, 3),
        (),
    ]


def test_every_knob_says_what_it_allows() -> None:
    allowed = {name: item.allowed for name, item in entry("sample").knobs.items()}
    assert allowed == {
        "keep": "a share above 0 and up to 1.0, or a count of 1 or more tokens a view",
        "layer": "a whole number from 1 to 9",
        "share": "a number from 0 to 1",
        "fast": "true or false",
        "how": "one of mean, max",
        "shape": "whole numbers like 16,12,12 of 1 or more",
        "shares": "numbers like 0.5,0.25 from 0 to 1",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ({"keep": "0.5"}, 0.5),
        ({"keep": "1.0"}, 1.0),
        ({"keep": "1"}, 1),
        ({"keep": "2e-1"}, 0.2),
        ({"keep": "144"}, 144),
        ({"layer": "9"}, 9),
        ({"share": "1"}, 1.0),
        ({"fast": "False"}, False),
        ({"fast": "1"}, True),
        ({"how": "max"}, "max"),
        ({"shape": "16,12,12"}, (16, 12, 12)),
        ({"shape": "16x12"}, (16, 12)),
        ({"shape": [4, 5]}, (4, 5)),
        ({"shares": "0.5,1"}, (0.5, 1.0)),
        ({"shares": [1, 0.25]}, (1.0, 0.25)),
        ({"shares": ""}, ()),
        ({"share": 1}, 1.0),
        ({"keep": 7}, 7),
    ],
)
def test_values_are_read_from_text_and_plain_values(text: dict[str, Any], value: Any) -> None:
    [name] = text
    got = getattr(made(**text), name)
    assert got == value
    assert type(got) is type(value)  # a share of 1.0 and a count of 1 are different budgets


@pytest.mark.parametrize(
    "knobs",
    [
        {"keep": 0},
        {"keep": 0.0},
        {"keep": -1},
        {"keep": -0.5},
        {"keep": 1.5},
        {"keep": float("nan")},
        {"keep": float("inf")},
        {"keep": "nan"},
        {"keep": "half"},
        {"keep": ""},
        {"keep": True},
        {"keep": None},
        {"keep": [1]},
        {"layer": 0},
        {"layer": 10},
        {"layer": 2.0},
        {"layer": "2.5"},
        {"layer": True},
        {"layer": "9" * 5000},
        {"share": float("nan")},
        {"share": "nan"},
        {"share": -0.1},
        {"share": 10**400},
        {"share": True},
        {"fast": 1},
        {"fast": "maybe"},
        {"how": "min"},
        {"how": 3},
        {"shape": 4},
        {"shape": [0, 2]},
        {"shape": [1.5]},
        {"shape": [True]},
        {"shape": "4,,5"},
        {"shape": "a,b"},
        {"shares": [True]},
        {"shares": [1.5]},
        {"shares": ["0.5"]},
        {"shares": "0.5,,1"},
        {"shares": 0.5},
    ],
)
def test_a_wrong_value_names_the_system_the_knob_and_what_is_allowed(knobs: dict[str, Any]) -> None:
    [name] = knobs
    message = refused(**knobs)
    assert message.startswith(f"sample: {name}=")
    assert message.endswith(f"is not allowed: {entry('sample').knobs[name].allowed}")


def test_an_unknown_knob_suggests_the_nearest() -> None:
    assert "unknown knob of sample 'kepp'; did you mean 'keep'?" in refused(kepp=1)


def test_a_knob_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="unknown knob of sample '1'"):
        build("sample", {1: 2})  # type: ignore[dict-item]


def test_an_unknown_system_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown system 'sampel'; did you mean 'sample'\?"):
        build("sampel", {})


def test_a_systems_own_check_runs_when_it_is_built() -> None:
    assert refused(layer=7) == "sample: layer=7 is taken"


def test_two_systems_of_one_name_are_our_mistake() -> None:
    other = dataclasses.make_dataclass(
        "Other", [], namespace={"reduce": lambda *_: None, "__module__": "elsewhere"}
    )
    with pytest.raises(AssertionError, match="two systems named sample"):
        system("sample", title="", paper="")(other)


def test_a_system_that_fills_no_slot_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="fills no slot"):
        system("empty", title="", paper="")(dataclasses.make_dataclass("Empty", []))


@pytest.mark.parametrize(
    ("budget", "available", "count"),
    [
        (1.0, 7, 7),
        (0.5, 5, 2),  # 2.5 rounds half to even
        (0.5, 7, 4),  # 3.5 rounds half to even
        (0.01, 7, 1),  # one stays at least
        (0.5, 0, 0),
        (7, 7, 7),
        (1, 7, 1),
    ],
)
def test_a_budget_of_what_there_is_is_a_count(
    budget: float | int, available: int, count: int
) -> None:
    assert count_of(budget, available) == count


def test_a_count_above_what_there_is_says_both_numbers() -> None:
    with pytest.raises(UserError, match="keep=8 is more than the 7 tokens of a view there are"):
        count_of(8, 7, "tokens of a view")
