"""Which frames to look at: pure functions from frame counts and times to sorted frame indices.

T is the number of frames a clip has. Asked for more frames than there are, every function
returns all of them once, never the same frame twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from sparsight.core.clip import Clip
from sparsight.core.errors import UserError, unknown

Ends = Literal["linspace", "centers"]
Times = Sequence[float] | Tensor

# Times are ratios of integers: 30 frames at 1/30 s must reach the tick at 1 s in spite of rounding.
_ROUNDING = 1e-6


def uniform(total: int, count: int, ends: Ends = "linspace") -> list[int]:
    """`count` of `total` frames, evenly spread.

    "linspace" takes the first and the last frame and rounds down in between, as LLaVA's
    `np.linspace(0, T - 1, count, dtype=int)`; a single frame is the first. "centers" cuts the
    film into `count` equal segments and takes the frame at each mid-point, so neither end; a
    single frame is the middle one.
    """
    if count < 1:
        raise UserError(f"the number of frames must be 1 or more, not {count}")
    if count >= total:
        return list(range(total))
    if ends == "linspace":
        return np.linspace(0, total - 1, count, dtype=int).tolist()
    if ends == "centers":
        return [(2 * i + 1) * total // (2 * count) for i in range(count)]
    raise unknown("convention", ends, ("linspace", "centers"))


def fps(timestamps: Times, rate: float) -> list[int]:
    """The frames shown at `rate` instants a second, counted from the first frame's time.

    True times count, so a film of variable frame rate is sampled evenly in time. A rate above
    the film's own returns every frame.
    """
    if not 0 < rate < math.inf:
        raise UserError(f"fps must be above 0, not {rate}")
    times = np.asarray(timestamps, dtype=np.float64)
    if len(times) < 2:
        return list(range(len(times)))
    start = (times - times[0]) * rate
    end = np.append(start[1:], 2 * start[-1] - start[-2])  # the last is shown as long as its like
    shown = np.ceil(start - _ROUNDING) < end - _ROUNDING
    return np.flatnonzero(shown).tolist()


def at(timestamps: Times, seconds: Sequence[float]) -> list[int]:
    """The frames shown at the given seconds (the stream's own clock), sorted, each once.

    A time before the first frame gives the first, one after the last gives the last.
    """
    times = np.asarray(timestamps, dtype=np.float64)
    found = np.searchsorted(times, np.asarray(seconds, dtype=np.float64) + _ROUNDING, "right") - 1
    return np.unique(found.clip(0)).tolist()


@dataclass(frozen=True)
class Selection:
    """A rule that picks frames of any clip; see `parse_selection` for its text form."""

    rule: Literal["uniform", "centers", "fps", "at", "keyframes", "all"]
    values: tuple[float, ...] = ()

    def indices(self, clip: Clip) -> list[int]:
        """Sorted frame indices of `clip`. Raises `UserError` for a time outside the film."""
        match self.rule:
            case "uniform":
                return uniform(len(clip), int(self.values[0]), "linspace")
            case "centers":
                return uniform(len(clip), int(self.values[0]), "centers")
            case "fps":
                return fps(clip.timestamps, self.values[0])
            case "at":
                return at(clip.timestamps, self._inside(clip))
            case "keyframes":
                return list(clip.key_frames)
            case "all":
                return list(range(len(clip)))

    def _inside(self, clip: Clip) -> tuple[float, ...]:
        end = float(clip.timestamps[0]) + clip.duration
        for second in self.values:
            if second > end:
                raise UserError(f"{clip.origin}: nothing is shown at {second:g} s; ends at {end:g}")
        return self.values

    def __str__(self) -> str:
        values = ",".join(f"{value:g}" for value in self.values)
        return f"{self.rule}:{values}" if values else self.rule


_FORMS = {
    "uniform": "uniform:8",
    "centers": "centers:8",
    "fps": "fps:1",
    "at": "at:0.5,2.0",
    "keyframes": "keyframes",
    "all": "all",
}


def parse_selection(text: str) -> Selection:
    """Read "uniform:8", "centers:8", "fps:1", "at:0.5,2.0", "keyframes" or "all".

    uniform and centers: that many frames, with and without the film's ends. fps: frames a
    second. at: the frames shown at those seconds. Raises `UserError` saying the right form.
    """
    rule, colon, rest = text.strip().partition(":")
    if rule not in _FORMS:
        raise unknown("frame selection", rule, _FORMS)
    wrong = UserError(f"frame selection {text!r} is not of the form {_FORMS[rule]!r}")
    if rule in ("keyframes", "all"):
        if colon:
            raise wrong
        return Selection(rule)  # type: ignore[arg-type]
    try:
        values = tuple(float(part) for part in rest.split(","))
    except ValueError:
        raise wrong from None
    whole = rule in ("uniform", "centers")
    if (
        not all(math.isfinite(value) and value >= 0 for value in values)
        or (rule != "at" and (len(values) != 1 or values[0] == 0))
        or (whole and values[0] != int(values[0]))
    ):
        raise wrong
    return Selection(rule, values)  # type: ignore[arg-type]
