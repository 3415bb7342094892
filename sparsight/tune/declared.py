"""From the catalogue's declarations to a search space for one model and one kind of media.

A new system is searched without a word about it here: its ranges follow from the types, limits and
defaults of its knobs. Two names mean the same everywhere: `keep` is how much stays, `layer` is a
layer of the LLM.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import Entry, Knob, build, entries, entry
from sparsight.core.slots import needs_of
from sparsight.tune.space import Frames, Range, Space

_DEPTH = 32  # of the LLMs that the declared layers are for
_LEAST, _MOST = 0.02, 0.9  # of a budget; keeping everything is the empty slot's part
_SHARE = 0.25  # of a budget that is declared as a count
_LAYERS = ("layer", "layers")
_NEVER = ("seed", "compat")  # another seed is no better plan; a reference's quirk is no setting
_PARTS = (1.0, 0.75, 0.5, 0.375, 0.25)  # of a declared shape

#: Puts a plan on the model; raises `UserError` where it does not run.
Planned = Callable[[Plan], Any]


def space_for(
    planned: Planned,
    base: Plan,
    *,
    depth: int,
    kinds: Collection[str],
    selection: str | None,
    names: Sequence[str] | None = None,
) -> Space:
    """The space of the systems that run on a model and on media of these kinds.

    Args:
        base: model, frames and seed of all plans.
        depth: layers of the LLM.
        kinds: "picture", "film" or both: what the items hold.
        selection: the frame selection where plans may change it, such as "uniform:8".
        names: the systems to search; None: all of the catalogue.

    Raises `UserError` for an unknown name, and where no system is left.
    """
    wanted = entries().values() if names is None else [entry(name) for name in names]
    systems, ranges, fixed, left_out = {}, {}, {}, {}
    for item in wanted:
        try:
            found = _fitted(item, planned, base, depth)
            _check_media(found, base, kinds)
        except UserError as error:
            left_out[item.name] = str(error)
            continue
        systems[item.name] = item.slots
        ranges[item.name] = _ranges(item, found, planned, base, depth)
        fixed[item.name] = {
            name: getattr(found, name)
            for name, knob in item.knobs.items()
            if getattr(found, name) != knob.default and name not in ranges[item.name]
        }
    if not systems:
        why = "; ".join(left_out.values())
        raise UserError(f"no system is left to search: {why}")
    return Space(base, systems, ranges, fixed, _frames(selection, kinds), left_out)


def _frames(selection: str | None, kinds: Collection[str]) -> Frames | None:
    counted = re.fullmatch(r"(uniform|centers):(\d+)", selection or "")
    if counted is None or "film" not in kinds or int(counted[2]) < 2:
        return None
    return Frames(counted[1], int(counted[2]))


def _check_media(system: Any, base: Plan, kinds: Collection[str]) -> None:
    """Refuse a system that cannot serve all of the media."""
    slots = entry(system.system_name).slots
    for_films = any(need.name == "film" for need in needs_of(system))
    if for_films and "picture" in kinds:
        raise UserError(f"{system.system_name} works on films, and there are pictures")
    if set(slots) <= {"select", "tile"} and "film" not in kinds:
        raise UserError(f"{system.system_name} chooses frames, and there are no films")
    if "select" in slots and base.frames is not None:
        raise UserError(f"{system.system_name} chooses the frames itself, and they are given")


def _fitted(item: Entry, planned: Planned, base: Plan, depth: int) -> Any:
    """A system at its declared defaults, or as near to them as the model allows: layers that the
    LLM does not have are moved in proportion, another choice stands in for one without its needs.
    """
    refusal: UserError | None = None
    for knobs in _nearby(item, depth):
        try:
            system = build(item.name, knobs)
            planned(dataclasses.replace(base, systems=(system,)))
            return system
        except UserError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _nearby(item: Entry, depth: int) -> Iterator[dict[str, Any]]:
    layers = {
        name: _moved(knob.default, depth) for name, knob in item.knobs.items() if name in _LAYERS
    }
    for moved in ({}, layers) if layers else ({},):
        yield dict(moved)
        for name, knob in item.knobs.items():
            for choice in knob.choices or ():
                yield {**moved, name: choice}


def _moved(layer: Any, depth: int) -> Any:
    """A layer, or rising layers, of a usual LLM at the same share of `depth` layers."""
    if not isinstance(layer, tuple):
        return min(max(1, round(layer * depth / _DEPTH)), max(1, depth - 1))
    found: list[int] = []
    for value in layer:
        found.append(max(found[-1] + 1 if found else 1, round(value * depth / _DEPTH)))
    return tuple(found)


def _ranges(item: Entry, system: Any, planned: Planned, base: Plan, depth: int) -> dict[str, Range]:
    """The knobs of a system that are searched, with their values."""

    def runs(**knobs: Any) -> bool:
        try:
            made = dataclasses.replace(system, **knobs)
            planned(dataclasses.replace(base, systems=(made,)))
        except UserError:
            return False
        return True

    ranges = {}
    for place, (name, knob) in enumerate(item.knobs.items()):
        found = range_of(knob, getattr(system, name), depth)
        if found is None:
            continue
        main = place == 0 or knob.type == "budget" or name in ("keep", "layer")
        found = dataclasses.replace(found, main=main)
        if main and found.low == 0 and isinstance(found.usual, float):
            found = dataclasses.replace(found, low=min(_LEAST, found.usual))
        if found.choices:
            choices = tuple(value for value in found.choices if runs(**{name: value}))
            found = dataclasses.replace(found, choices=choices)
            if len(choices) < 2:
                continue
        elif main and not runs(**{name: found.at(found.low)}):
            found = dataclasses.replace(found, low=_least(found, name, runs))
        if found.choices or found.low < found.high:
            ranges[name] = found
    return ranges


def _least(found: Range, name: str, runs: Callable[..., bool]) -> float:
    """The least value of a range that runs, where the usual one does and the lowest does not."""
    low, high = found.low, float(found.usual)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if runs(**{name: found.at(middle)}) else (middle, high)
    return math.ceil(high) if isinstance(found.usual, int) else high


def range_of(knob: Knob, usual: Any, depth: int) -> Range | None:
    """The values to search of a knob whose usual value on this model is `usual`; None: only that.

    Shares of tokens are searched on a logarithmic scale; numbers without a bound up to four times
    the default and down to a quarter of it; numbers with an upper bound not below the default by
    more than twice what is above it (0.8 of at most 1: from 0.4).
    """
    if knob.name in _NEVER:
        return None
    if knob.choices is not None or knob.type == "bool":
        others = [value for value in knob.choices or (True, False) if value != usual]
        return Range(usual, choices=(usual, *others))
    is_share = knob.type == "float" and (knob.low, knob.high) == (0, 1)
    if knob.type == "budget" or (knob.name == "keep" and is_share):
        share = usual if isinstance(usual, float) else _SHARE
        return Range(min(max(share, _LEAST), _MOST), low=_LEAST, high=_MOST, log=True)
    if usual == 0 and knob.high is None:
        return None  # stands for "off", or for "as many as needed": there is no scale to search
    if knob.type == "int":
        if knob.name == "layer":
            return Range(usual, low=max(1, knob.low or 0), high=depth - 1)
        least = knob.low if knob.low is not None else min(0, usual)
        low = max(least, usual // 4)
        high = knob.high if knob.high is not None else max(4 * usual, low + 4)
        return Range(usual, low=low, high=high, log=low >= 1)
    if knob.type == "float":
        return _float_range(knob, usual)
    if knob.type == "ints" and usual and knob.name not in _LAYERS:
        shapes = [tuple(max(1, round(side * part)) for side in usual) for part in _PARTS]
        return Range(usual, choices=tuple(dict.fromkeys([usual, *shapes])))
    return None


def _float_range(knob: Knob, usual: float) -> Range:
    low, high = knob.low, knob.high
    if high is not None:
        least = usual - 2 * (high - usual)
        if low is None:
            low = max(0.0, least) if usual >= 0 else least
        return Range(usual, low=max(low, least), high=high)
    if usual > 0 and low is not None and low >= 0:
        return Range(usual, low=max(low, usual / 4), high=4 * usual, log=True)
    spread = 2 * abs(usual)
    return Range(
        usual, low=max(-math.inf if low is None else low, usual - spread), high=usual + spread
    )


def depth_of(vlm: Any) -> int:
    """Layers of a model's LLM."""
    return len(vlm.family.decoder.layers)


def describe(space: Space) -> Mapping[str, Any]:
    """The space as plain values: what a resumed search must find unchanged."""
    return {
        "systems": {
            name: {
                knob: [item.low, item.high, item.log, [str(value) for value in item.choices]]
                for knob, item in space.ranges[name].items()
            }
            for name in space.systems
        },
        "frames": None if space.frames is None else str(space.frames),
        "left_out": space.left_out,
    }
