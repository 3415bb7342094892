"""Stretching rotary positions over more tokens than a model was trained on.

Letters: A width of a head; inverse frequencies are the A / 2 angles a position turns by.
"""

from __future__ import annotations

import torch
from torch import Tensor


def base_changed(inverse: Tensor, stretch: float) -> Tensor:
    """NTK-aware: (A / 2,) inverse frequencies as of the base b * stretch ** (A / (A - 2)).

    The highest frequency stays, the lowest is divided by `stretch`, those between in powers.
    """
    pairs = len(inverse)
    if pairs == 1:
        return inverse / stretch
    power = torch.arange(pairs, device=inverse.device, dtype=torch.float32) / (pairs - 1)
    return inverse / stretch**power


def interpolated(inverse: Tensor, stretch: float) -> Tensor:
    """Linear interpolation: (A / 2,) inverse frequencies, as if positions were divided."""
    return inverse / stretch
