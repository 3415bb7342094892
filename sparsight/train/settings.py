"""A recipe as keys and plain values: what `--set` changes, and what a resumed run must agree on.

Keys are dotted: "seed", "stages.NAME.steps", "stages.NAME.rates.PATTERN".
"""

from __future__ import annotations

import dataclasses
import functools
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsight.core.errors import UserError, unknown
from sparsight.train.recipe import Lora, Recipe, Stage

#: Keys of a stage that change nothing of what is learned, so a resumed run may change them.
FREE = frozenset({"workers", "save_every", "log_every", "check", "check_every"})


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values.

    Args:
        values: dotted key -> value, as text (from the command line) or of the right type.

    Raises `UserError` for an unknown key (with the nearest known) and for a wrong type.
    """
    for key, value in values.items():
        below = [name for name in keys(recipe) if name.startswith(key + ".")]
        if below:
            raise UserError(f"{key!r} is a group of keys: name one, such as {below[0]}")
        recipe = _with(recipe, key.split("."), value, key)
    return recipe


def keys(recipe: Recipe) -> list[str]:
    """Every key that `changed` takes."""
    return sorted(key for key, value in _walk(recipe, "") if _settable(key, value))


def _with(owner: Any, path: list[str], value: Any, key: str) -> Any:
    """`owner` (dataclass, stages or mapping) with the value at `path` replaced."""
    name, rest = path[0], path[1:]
    if isinstance(owner, tuple):  # the stages
        names = [stage.name for stage in owner]
        if name not in names:
            raise unknown(f"stage in {key!r}:", name, names)
        return tuple(
            _with(stage, rest, value, key) if stage.name == name else stage for stage in owner
        )
    fields = {item.name: item for item in dataclasses.fields(owner)}
    known = {item for item in fields if _settable(item, getattr(owner, item))}
    if name not in known:
        raise unknown(f"key {key!r} of the recipe:", name, known)
    old = getattr(owner, name)
    if rest and old is None:
        raise UserError(f"{key!r}: the recipe has no {name} there")
    if isinstance(old, Mapping):
        return dataclasses.replace(owner, **{name: _with_item(old, rest, value, key)})
    if rest:
        if name != "stages" and not dataclasses.is_dataclass(old):
            raise UserError(f"{key!r}: {name} is a single value")
        return dataclasses.replace(owner, **{name: _with(old, rest, value, key)})
    wanted = typing.get_type_hints(type(owner))[name]
    return dataclasses.replace(owner, **{name: _typed(value, wanted, key)})


def _settable(key: str, value: Any) -> bool:
    """Functions are the recipe's own; names hold it together."""
    return not callable(value) and key.split(".")[-1] not in ("name", "check")


def _with_item(old: Mapping[str, Any], rest: list[str], value: Any, key: str) -> dict[str, Any]:
    name = ".".join(rest)  # patterns have dots of their own
    if name not in old:
        raise unknown(f"key {key!r} of the recipe:", name, old)
    return {**old, name: _typed(value, type(old[name]), key)}


def _typed(value: Any, wanted: Any, key: str) -> Any:
    """A value of the wanted type, read from text if need be."""
    kinds = _kinds(wanted)
    for kind in kinds:
        read = _read(value, kind)
        if read is not _WRONG:
            return read
    words = " or ".join(_WORDS.get(kind, str(kind)) for kind in kinds)
    raise UserError(f"{key} must be {words}, not {value!r}")


def _kinds(wanted: Any) -> tuple[Any, ...]:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return typing.get_args(wanted)
    return (wanted,)


_WRONG = object()
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "none",
    tuple[str, ...]: "texts with commas between",
    tuple[float, float]: "two numbers with a comma between",
}


def _read(value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        return _read_tuple(value, typing.get_args(kind))
    if kind is type(None):
        return None if value is None or value == "none" else _WRONG
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    if not isinstance(value, str):
        return _WRONG
    if kind is bool:
        return {"true": True, "false": False}.get(value.lower(), _WRONG)
    try:
        return kind(value) if kind in (int, float, str) else _WRONG
    except ValueError:
        return _WRONG


def _read_tuple(value: Any, args: tuple[Any, ...]) -> Any:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return _WRONG
    kinds = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
    if len(kinds) != len(items):
        return _WRONG
    read = tuple(_read(item, kind) for item, kind in zip(items, kinds, strict=True))
    return _WRONG if any(item is _WRONG for item in read) else read


# ---- the fingerprint -------------------------------------------------------------------------


def fingerprint(recipe: Recipe) -> dict[str, Any]:
    """Everything that decides what is learned, as JSON values by key; functions by their
    qualified names, with the arguments that are bound to them."""
    found = {
        key: _plain(value)
        for key, value in _walk(recipe, "")
        if not (key.startswith("stages.") and key.split(".")[2] in FREE)
    }
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # they divide the samples of a step
    return {**found, "stages": [stage.name for stage in recipe.stages], "processes": processes}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two fingerprints, one text each."""
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted({*old, *new})
        if old.get(key, absent) != new.get(key, absent)
    ]


def _walk(owner: Any, prefix: str) -> typing.Iterator[tuple[str, Any]]:
    for item in dataclasses.fields(owner):
        value, key = getattr(owner, item.name), prefix + item.name
        if item.name == "stages":
            for stage in value:
                yield from _walk(stage, f"{key}.{stage.name}.")
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{name}", below) for name, below in value.items())
        elif isinstance(value, Lora):
            yield from _walk(value, key + ".")
        elif not (isinstance(owner, Stage) and item.name == "name"):
            yield key, value


def _plain(value: Any) -> Any:
    if isinstance(value, functools.partial):
        bound = [repr(_plain(item)) for item in value.args]
        bound += [f"{name}={_plain(item)!r}" for name, item in sorted(value.keywords.items())]
        return f"{_plain(value.func)}({', '.join(bound)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        below = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return f"{_plain(type(value))}({_plain(below)})"
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str | int | float | bool | None):
        return value
    return _plain(type(value))
