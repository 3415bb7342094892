"""Seconds per stage, each ended by waiting for the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparsight.core.meter import Meter


class Stages:
    """A clock for the stages of one request.

    ```python
    stages = Stages("cuda")
    with stages("encode"):
        features = tower(pixels)
    stages.seconds  # {"encode": 0.043}
    ```

    `seconds` maps each stage to its seconds in the order in which the stages first began; a stage
    entered again adds to its entry, one that raises counts as far as it came. Stages do not nest:
    their seconds add up to no more than the whole. `own` is a meter of what systems take for
    themselves within the stages, for whoever opens it. `aside` is to be added to what passed on a
    clock: seconds of work that was recalled instead of done, less those that remembering took.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.seconds: dict[str, float] = {}
        self.own = Meter(self.device)
        self.aside = 0.0
        self._open: str | None = None

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        assert self._open is None, f"stage {name!r} begins inside stage {self._open!r}"
        self._open = name
        self.seconds.setdefault(name, 0.0)
        started = time.perf_counter()
        try:
            yield
            synchronize(self.device)
        finally:
            self.seconds[name] += time.perf_counter() - started
            self._open = None

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere, after waiting for the device there."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def recall(self, name: str, seconds: float) -> None:
        """Count work that was done before and need not be done again."""
        self.add(name, seconds)
        self.aside += seconds

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """A block whose seconds are nobody's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.aside -= time.perf_counter() - started


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all it was given; nothing to wait for on a CPU."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
