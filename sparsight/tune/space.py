"""The plans that a search may try: systems across slots, their knobs, the number of frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sparsight.core.plan import Plan
from sparsight.core.registry import build
from sparsight.core.slots import SLOTS

#: Stands for no system in a slot.
NONE = "-"

Params = dict[str, Any]


class Trial(Protocol):
    """What is used of `optuna.Trial`."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


@dataclass(frozen=True)
class Range:
    """The values a knob may take: numbers from `low` to `high`, or `choices`.

    usual   the declared default, fitted to the model
    main    whether it is tried at all values from the start; the others are at their usual values
            unless a trial sets its system free
    """

    usual: Any
    main: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def numeric(self) -> bool:
        return not self.choices

    def at(self, number: float) -> float | int:
        """A number as a value of this range: whole where the knob is, between its ends."""
        number = min(max(number, self.low), self.high)
        return round(number) if isinstance(self.usual, int) else float(number)

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let a trial choose a value."""
        if self.choices:
            return trial.suggest_categorical(name, [_stored(value) for value in self.choices])
        if isinstance(self.usual, int):
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


class Frames(NamedTuple):
    """A selection of frames whose count is searched: its kind and its usual count, the most."""

    kind: str
    most: int


@dataclass(frozen=True)
class Space:
    """What may be tried.

    base      the plan that trials build on: model, frames, seed
    systems   name -> its slots, in the catalogue's order
    ranges    name -> knob -> its values; knobs that are not here stay as declared
    fixed     name -> knobs that are not searched but differ from the declared default, because
              this model asks for it
    frames    what is searched of the selection of frames, where films leave it open
    left_out  name -> why it cannot run here
    """

    base: Plan
    systems: dict[str, tuple[str, ...]]
    ranges: dict[str, dict[str, Range]]
    fixed: dict[str, dict[str, Any]]
    frames: Frames | None = None
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def of_slot(self, slot: str) -> list[str]:
        """The systems whose first slot this is."""
        return [name for name, slots in self.systems.items() if slots[0] == slot]

    @property
    def slots(self) -> list[str]:
        """The slots that some system begins in, in the order the data passes them."""
        return [slot for slot in SLOTS if self.of_slot(slot)]

    def with_choices(self, name: str, knob: str, choices: Sequence[Any]) -> Space:
        """This space with one more knob searched, among these values; the first is usual."""
        ranges = {**self.ranges[name], knob: Range(choices[0], choices=tuple(choices))}
        return dataclasses.replace(self, ranges={**self.ranges, name: ranges})

    def suggest(self, trial: Trial) -> Params:
        """Let a trial choose: a system for each slot that is free, then its knobs."""
        chosen: Params = {}
        taken: set[str] = set()
        for slot in self.slots:
            if slot in taken:
                continue
            name = trial.suggest_categorical(slot, [NONE, *self.of_slot(slot)])
            chosen[slot] = name
            if name == NONE:
                continue
            if taken & set(self.systems[name]):  # a later slot of it went to an earlier system
                chosen[slot] = NONE
                continue
            taken |= set(self.systems[name])
            chosen |= self._suggest_knobs(trial, name)
        if self.frames is not None and "select" not in taken:
            found = self.range_of("frames")
            assert found is not None
            chosen["frames"] = found.suggest(trial, "frames")
        return chosen

    def _suggest_knobs(self, trial: Trial, name: str) -> Params:
        ranges, chosen = self.ranges[name], {}
        free = f"{name}.free"
        if any(not item.main for item in ranges.values()):
            chosen[free] = trial.suggest_categorical(free, [False, True])
        for knob, item in ranges.items():
            if item.main or chosen[free]:
                chosen[f"{name}.{knob}"] = item.suggest(trial, f"{name}.{knob}")
        return chosen

    def plan(self, params: Mapping[str, Any]) -> Plan:
        """The plan that parameters describe. Raises `UserError` where a system refuses them."""
        systems = []
        for slot in self.slots:
            name = params.get(slot, NONE)
            if name != NONE:
                systems.append(build(name, self.knobs(name, params)))
        plan = dataclasses.replace(self.base, systems=tuple(systems))
        selects = any("select" in self.systems[system.system_name] for system in systems)
        if self.frames is not None and not selects:
            count = params.get("frames", self.frames.most)
            if count != self.frames.most:
                plan = dataclasses.replace(plan, frames=f"{self.frames.kind}:{count}")
        return plan

    def knobs(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The knobs of one system: chosen, else usual."""
        chosen = {
            knob: params.get(f"{name}.{knob}", item.usual)
            for knob, item in self.ranges[name].items()
        }
        rounded = {
            knob: _rounded(value, self.ranges[name][knob].low) for knob, value in chosen.items()
        }
        return {**self.fixed[name], **rounded}

    def alone(self, name: str, **knobs: Any) -> Params:
        """Parameters of one system alone: at its usual main knobs, but for those given."""
        return {**self.empty(), **self.part(name, **knobs)}

    def empty(self) -> Params:
        """Parameters of the plain model."""
        plain: Params = dict.fromkeys(self.slots, NONE)
        return plain if self.frames is None else {**plain, "frames": self.frames.most}

    def part(self, name: str, **knobs: Any) -> Params:
        """The parameters that one system adds to others'."""
        ranges = self.ranges[name]
        found: Params = {self.systems[name][0]: name}
        if any(not item.main for item in ranges.values()):
            found[f"{name}.free"] = False
        for knob, item in ranges.items():
            if item.main:
                found[f"{name}.{knob}"] = _stored(knobs.get(knob, item.usual))
        return found

    def range_of(self, key: str) -> Range | None:
        """The range of a parameter, such as "fastv.keep" or "frames"; None for a slot."""
        if key == "frames" and self.frames is not None:
            most = self.frames.most
            return Range(most, low=max(1, most // 8), high=most, log=True)
        name, _, knob = key.partition(".")
        return self.ranges.get(name, {}).get(knob)

    def budget(self, name: str) -> str | None:
        """The knob that says how much a system keeps: its first numeric main one."""
        found = [knob for knob, item in self.ranges[name].items() if item.main and item.numeric]
        return next(iter(found), None)


def _rounded(value: Any, low: float) -> Any:
    """A number of many digits with three of them, as people would write it; not below `low`."""
    if not isinstance(value, float):
        return value
    short = float(f"{value:.3g}")
    return short if short >= low else value


def _stored(value: Any) -> Any:
    """A value as a trial holds it: a tuple as text."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
