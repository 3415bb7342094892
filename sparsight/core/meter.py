"""The seconds that systems take for themselves, wherever in a request they are spent.

Choosing frames, reducing, reading attention rows and editing between layers happen in many rooms
of the house, inside hooks too. Each says `with metered():`; whoever wants to know opens a meter.

```python
meter = Meter(device)
with metering(meter):
    vlm.ask(...)
meter.seconds
```
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch


class Meter:
    """A clock that adds up stretches of time.

    On CUDA the device's own clock is read by events, so that nothing waits: a stretch lasts from
    when the device reached it until it is through. Elsewhere it is the host's clock.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._host = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._open = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count this stretch; one inside another counts once."""
        if self._open:
            yield
            return
        self._open = True
        started = self._mark()
        try:
            yield
        finally:
            self._open = False
            ended = self._mark()
            if isinstance(started, float):
                assert isinstance(ended, float)
                self._host += ended - started
            else:
                assert not isinstance(ended, float)
                self._events.append((started, ended))

    def _mark(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    @property
    def seconds(self) -> float:
        """The sum so far; on CUDA this waits for the last stretch."""
        if self._events:
            self._events[-1][1].synchronize()
        return self._host + sum(a.elapsed_time(b) for a, b in self._events) / 1000


_meter: ContextVar[Meter | None] = ContextVar("sparsight_meter", default=None)


@contextmanager
def metering(meter: Meter) -> Iterator[Meter]:
    """Let `meter` count what systems do in this context."""
    before = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(before)


@contextmanager
def metered() -> Iterator[None]:
    """A stretch that a system takes for itself; free where no meter is open."""
    meter = _meter.get()
    if meter is None:
        yield
        return
    with meter():
        yield
