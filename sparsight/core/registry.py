"""Systems, their knobs, and the catalogue that everything else is generated from.

A system is a frozen dataclass in a file of its own. Its fields are its knobs; the `system`
decorator gives it a name and puts it in the catalogue. The slots it fills follow from the
methods it has (see `sparsight.core.slots`).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from sparsight.core.errors import UserError, unknown
from sparsight.core.slots import slots_of

#: A share of the visual tokens (float, above 0 and up to 1.0) or a count of them (int, 1 or more).
Budget = Union[float, int]  # noqa: UP007  (kept as a Union so that it can be recognised by identity)

T = TypeVar("T")


@dataclass(frozen=True)
class Knob:
    """One setting of a system: its type, default, allowed range or choices, and what it does."""

    name: str
    type: str  # "int", "float", "bool", "str", "budget", "ints" or "floats"
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    per: str | None = None  # what a count is counted over: "view" or "medium"

    @property
    def allowed(self) -> str:
        """The allowed values in words, as errors and the catalogue print them."""
        if self.type == "budget":
            over = f" a {self.per}" if self.per else ""
            return f"a share above 0 and up to 1.0, or a count of 1 or more tokens{over}"
        if self.choices is not None:
            return "one of " + ", ".join(map(str, self.choices))
        kind = {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "str": "text",
            "ints": "whole numbers like 16,12,12",
            "floats": "numbers like 0.5,0.25",
        }[self.type]
        if self.low is not None and self.high is not None:
            return f"{kind} from {self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"{kind} of {self.low:g} or more"
        if self.high is not None:
            return f"{kind} up to {self.high:g}"
        return kind


def knob(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    per: str | None = None,
) -> Any:
    """Declare a knob as a dataclass field with its default, help and allowed range."""
    limits = {"low": low, "high": high, "choices": tuple(choices) if choices else None, "per": per}
    return field(default=default, metadata={"help": help, **limits})


def tower_score(default: str = "cls") -> Any:
    """The knob of methods that rank patches by the tower's attention."""
    help = "attention of CLS, or attention received from all patches"
    return knob(default, help, choices=("cls", "received"))


def positions_after(default: str = "renumber", help: str = "positions of what stays") -> Any:
    """The knob of methods that leave their tokens' positions to the user."""
    return knob(default, help, choices=("renumber", "keep"))


@dataclass(frozen=True)
class Entry:
    """What the catalogue knows about a system."""

    name: str
    cls: type
    title: str
    paper: str
    group: str  # "system", "peer" or "baseline"
    official: tuple[str, ...]
    summary: str

    @property
    def slots(self) -> tuple[str, ...]:
        return slots_of(self.cls)

    @property
    def knobs(self) -> dict[str, Knob]:
        return knobs_of(self.cls)


_CATALOGUE: dict[str, Entry] = {}


def system(
    name: str,
    *,
    title: str,
    paper: str,
    group: str = "system",
    official: Sequence[str] = (),
) -> Callable[[type[T]], type[T]]:
    """Put a frozen dataclass into the catalogue under `name`.

    Args:
        title: one line, what it does.
        paper: where it is published, e.g. "arXiv:2412.01818"; empty for a baseline.
        group: "system" for the papers, "peer" for reference methods, "baseline".
        official: published figures, one a line, with their setting.
    """

    def register(cls: type[T]) -> type[T]:
        known = _CATALOGUE.get(name)
        assert known is None or known.cls.__module__ == cls.__module__, f"two systems named {name}"
        assert dataclasses.is_dataclass(cls), f"{cls.__name__} must be a dataclass"
        assert slots_of(cls), f"{cls.__name__} fills no slot"
        summary = (cls.__doc__ or "").strip()
        _CATALOGUE[name] = Entry(name, cls, title, paper, group, tuple(official), summary)
        cls.system_name = name  # type: ignore[attr-defined]
        return cls

    return register


def entries() -> dict[str, Entry]:
    """The catalogue, by name. `sparsight.systems.load()` fills it."""
    return dict(sorted(_CATALOGUE.items()))


def entry(name: str) -> Entry:
    """The entry of one system; an unknown name is a `UserError` that suggests the nearest."""
    if name not in _CATALOGUE:
        raise unknown("system", name, _CATALOGUE)
    return _CATALOGUE[name]


def knobs_of(cls: type) -> dict[str, Knob]:
    """The knobs of a system, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    return {
        item.name: Knob(
            item.name, _type_name(hints[item.name]), item.default, **dict(item.metadata)
        )
        for item in dataclasses.fields(cls)
    }


def _type_name(hint: Any) -> str:
    if hint == Budget:
        return "budget"
    if isinstance(hint, types.GenericAlias):
        return "floats" if float in typing.get_args(hint) else "ints"
    if typing.get_origin(hint) is typing.Literal:
        return "str"
    return hint.__name__


def build(name: str, knobs: Mapping[str, Any]) -> Any:
    """Make a system from its name and knobs; values may be text, as a command line gives them.

    Raises `UserError` naming the system, the knob and what is allowed.
    """
    found = entry(name)
    known = found.knobs
    values = {}
    for key, value in knobs.items():
        if key not in known:
            raise unknown(f"knob of {name}", key, known)
        values[key] = _checked(name, known[key], value)
    made = found.cls(**values)
    check = getattr(made, "check", None)
    if check is not None:
        check()
    return made


def _checked(name: str, knob: Knob, value: Any) -> Any:
    wrong = UserError(f"{name}: {knob.name}={value!r} is not allowed: {knob.allowed}")
    try:
        value = _parsed(knob, value)
    except (ValueError, TypeError, OverflowError):
        raise wrong from None
    if knob.type == "budget":
        if not (0 < value <= 1 if isinstance(value, float) else value >= 1):
            raise wrong
        return value
    if knob.choices is not None and value not in knob.choices:
        raise wrong
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            below = knob.low is not None and number < knob.low
            above = knob.high is not None and number > knob.high
            if below or above or number != number:
                raise wrong
    return value


def _parsed(knob: Knob, value: Any) -> Any:
    kind = knob.type
    if isinstance(value, str):
        if kind == "bool":
            return (
                {"true": True, "false": False, "1": True, "0": False}[value.lower()]
                if value.lower() in ("true", "false", "1", "0")
                else _fail()
            )
        if kind == "budget":
            return float(value) if any(mark in value for mark in ".eE") else int(value)
        if kind in ("ints", "floats"):
            number = int if kind == "ints" else float
            return tuple(number(part) for part in value.replace("x", ",").split(",") if value)
        return {"int": int, "float": float, "str": str}[kind](value)
    if kind == "bool":
        return value if isinstance(value, bool) else _fail()
    if isinstance(value, bool):
        return _fail()
    if kind == "budget":
        return value if isinstance(value, (int, float)) else _fail()
    if kind == "int":
        return value if isinstance(value, int) else _fail()
    if kind == "float":
        return float(value) if isinstance(value, (int, float)) else _fail()
    if kind == "ints":
        items = tuple(value)
        return items if all(type(item) is int for item in items) else _fail()
    if kind == "floats":
        items = tuple(value)
        return tuple(map(float, items)) if {*map(type, items)} <= {int, float} else _fail()
    return value if isinstance(value, str) else _fail()


def _fail() -> Any:
    raise ValueError


def count_of(budget: Budget, available: int, what: str = "tokens") -> int:
    """How many of `available` a budget keeps: a share rounds half to even, but keeps one at least.

    A count above what there is is a `UserError`: keeping more than everything is a mistake.
    """
    if isinstance(budget, float):
        return max(1, round(available * budget)) if available else 0
    if budget > available:
        raise UserError(f"keep={budget} is more than the {available} {what} there are")
    return budget
