"""What a training reports: means of losses and metrics, and the lines of `log.jsonl`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Meter:
    """Sums of named numbers since the last line of the log.

    The sums stay on the device, so that adding to them does not wait for it; `read` does.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, name: str, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Add a sum and what it is to be divided by."""
        new = self._scalar(value), self._scalar(weight)
        before = self._sums.get(name)
        self._sums[name] = new if before is None else (before[0] + new[0], before[1] + new[1])

    def _scalar(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.detach().to(self.device, torch.float32)
        return torch.full((), float(value), device=self.device)  # copying one there would wait

    def read(self) -> dict[str, tuple[float, float]]:
        """The sums and weights as numbers; waits for the device once."""
        if not self._sums:
            return {}
        flat = torch.stack([part for pair in self._sums.values() for part in pair]).tolist()
        return dict(zip(self._sums, zip(flat[::2], flat[1::2], strict=True), strict=True))

    def write(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Go on from what `read` gave."""
        self._sums = {name: (self._scalar(v), self._scalar(w)) for name, (v, w) in sums.items()}

    def clear(self) -> None:
        self._sums = {}


def means(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Mean of each name; names without weight are left out."""
    return {name: value / weight for name, (value, weight) in sums.items() if weight}


def merged(parts: list[dict[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """The sums of several processes together."""
    out: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (value, weight) in part.items():
            before = out.get(name, (0.0, 0.0))
            out[name] = (before[0] + value, before[1] + weight)
    return out


class Log:
    """`log.jsonl`: one JSON object a line, each with its stage and step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, record: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({key: _plain(value) for key, value in record.items()}) + "\n")

    def rewind(self, keep: Callable[[Mapping[str, Any]], bool]) -> None:
        """Leave only the lines that `keep` takes, and none that was cut off half-way."""
        if not self.path.exists():
            return
        kept = [line for line in self.path.read_text().splitlines() if _kept(line, keep)]
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text("".join(line + "\n" for line in kept))
        os.replace(part, self.path)


def _kept(line: str, keep: Callable[[Mapping[str, Any]], bool]) -> bool:
    try:
        return keep(json.loads(line))
    except ValueError:
        return False


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
