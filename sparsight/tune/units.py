"""Amounts with units, as people write them: 200ms, 20m, 64MB, 1.5T, 98 %."""

from __future__ import annotations

import re

from sparsight.core.errors import UserError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_FLOPS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}
_PART = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-zµ]*)\s*")


def seconds(text: str, name: str) -> float:
    """A time: "200ms", "1.5s", "20m", "1h30m". Raises `UserError` that begins with `name`."""
    parts = _parts(text)
    if not parts or any(unit.replace("µ", "u") not in _SECONDS for _, unit in parts):
        raise UserError(f"{name} {text}: give a time with its unit, such as 200ms, 90s, 20m, 1h30m")
    return _positive(sum(n * _SECONDS[unit.replace("µ", "u")] for n, unit in parts), text, name)


def byte_count(text: str, name: str) -> int:
    """An amount of memory: "64MB" (10^6), "64MiB" (2^20). Errors as `seconds`."""
    parts = _parts(text)
    if len(parts) != 1 or parts[0][1] not in _BYTES:
        raise UserError(f"{name} {text}: give bytes with their unit, such as 64MB, 64MiB, 1.5GB")
    return round(_positive(parts[0][0] * _BYTES[parts[0][1]], text, name))


def operations(text: str, name: str) -> tuple[float, bool]:
    """A number of operations, "1.5T" or "300GFLOPs", or a share, "25%": the number, is it a share.

    Errors as `seconds`.
    """
    if text.strip().endswith("%"):
        return share(text, name), True
    parts = _parts(text)
    unit = re.sub(r"flops?$", "", parts[0][1]) if len(parts) == 1 else "?"
    if unit not in _FLOPS:
        raise UserError(
            f"{name} {text}: give operations a question, such as 1.5T or 300G, or a share of the "
            "plain model's, such as 25%"
        )
    return _positive(parts[0][0] * _FLOPS[unit], text, name), False


def share(text: str, name: str) -> float:
    """A share above 0 and up to 1: "0.98" or "98%". Errors as `seconds`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(%?)\s*", text)
    value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < value <= 1:
        raise UserError(f"{name} {text}: give a share above 0 and up to 1, such as 0.98 or 98%")
    return value


def _parts(text: str) -> list[tuple[float, str]]:
    """("1h30m") -> [(1, "h"), (30, "m")]; nothing where there is more than that."""
    rest = text.strip().lower()
    found = []
    while rest and (part := _PART.match(rest)):
        found.append((float(part[1]), part[2]))
        rest = rest[part.end() :]
    return [] if rest else found


def _positive(value: float, text: str, name: str) -> float:
    if not value > 0:
        raise UserError(f"{name} {text}: give more than nothing")
    return value
