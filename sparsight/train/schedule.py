"""Learning rates over the steps of a stage, as shares of their peak."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "linear", "constant")


def share(step: int, steps: int, schedule: str, warmup: float = 0.0, floor: float = 0.0) -> float:
    """The share of the peak learning rate at `step` (from 0) of `steps`.

    It rises in a line over the first `warmup` share of the steps, never from quite 0, then falls
    to `floor` along the schedule.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - rising) / max(1, steps - rising))
    left = 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return floor + (1 - floor) * left
