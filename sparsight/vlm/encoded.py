"""Media that were encoded before: many plans, asked about the same media, encode them once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparsight.core.slots import Need
from sparsight.core.tokens import FeatureMap, Views


@dataclass(frozen=True)
class _Reading:
    """Signals that were read from the tower, and the seconds that encoding took with them."""

    signals: Mapping[str, Tensor]
    seconds: float


@dataclass
class Encoded:
    """Feature maps by what was encoded and what was read on the way, in main memory.

    At most `most` bytes are held, and what came first stays: a comparison goes over the same media
    again and again, and would find nothing if the oldest had to go.
    """

    most: int
    held: int = 0
    _maps: dict[str, FeatureMap] = field(default_factory=dict)
    _readings: dict[tuple[str, tuple[str, ...]], _Reading] = field(default_factory=dict)

    def find(
        self, name: str, views: Views, needs: Iterable[Need], device: torch.device
    ) -> tuple[FeatureMap, float] | None:
        """What the medium of this `digest` gave with the same needs, now for these views, and the
        seconds that it took; None where it is not there."""
        found = self._readings.get((name, _keys(needs)))
        if found is None:
            return None
        kept = dataclasses.replace(self._maps[name], signals=found.signals)
        return dataclasses.replace(_on(kept, device), views=views), found.seconds

    def keep(self, name: str, features: FeatureMap, needs: Iterable[Need], seconds: float) -> None:
        """Keep the features of the medium of this `digest`, if there is room."""
        key = _keys(needs)
        there = _on(features, torch.device("cpu"))
        plain = dataclasses.replace(
            there, signals={}, views=dataclasses.replace(there.views, inputs={})
        )
        size = sum(_bytes(value) for value in there.signals.values())
        if name not in self._maps:
            size += sum(_bytes(value) for value in vars(plain).values())
        if (name, key) in self._readings or self.held + size > self.most:
            return
        self.held += size
        self._maps.setdefault(name, plain)
        self._readings[name, key] = _Reading(there.signals, seconds)


def digest(views: Views) -> str:
    """A name for all that the features of a medium depend on."""
    about = (views.kind, views.roles, views.grid, views.size, views.alone)
    found = hashlib.blake2b(repr(about).encode(), digest_size=20)
    for key, value in {**views.inputs, "boxes": views.boxes, "times": views.times}.items():
        found.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _keys(needs: Iterable[Need]) -> tuple[str, ...]:
    return tuple(sorted({need.key for need in needs}))


def _on(features: FeatureMap, device: torch.device) -> FeatureMap:
    """A feature map with all its tensors on a device."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        if isinstance(value, Mapping):
            return {key: moved(item) for key, item in value.items()}
        return tuple(map(moved, value)) if isinstance(value, tuple) else value

    return type(features)(**{name: moved(value) for name, value in vars(features).items()})


def _bytes(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(map(_bytes, value))
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
