"""Attention over some of the keys a layer holds.

Shape suffixes: B batch, H heads, G key heads, L queries, K keys, A width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsight.llm.attention import Call
from sparsight.ops.row_choice import columns_of


def listed(keep: Tensor) -> tuple[Tensor, Tensor | None]:
    """The columns (B, N) that `keep` (B, K) bool names, and which of them are real (B, N): rows of
    fewer are filled up; None where none is."""
    columns = columns_of(keep)
    real = torch.arange(columns.shape[1], device=keep.device) < keep.sum(1)[:, None]
    return columns, None if bool(real.all()) else real


def over_columns(call: Call, columns: Tensor, real: Tensor | None = None) -> Tensor:
    """The output (B, L, H, A) of a call whose queries see the keys in `columns` (B, N) alone.

    The keys are gathered; those left out are neither read nor changed. For decoding: `call` has one
    query, which stands behind all keys. `real` as `listed` gives it.
    """

    def picked(held: Tensor) -> Tensor:
        at = columns[:, None, :, None].expand(-1, held.shape[1], -1, held.shape[3])
        return held.gather(2, at)

    mask: Any = call.mask
    if not isinstance(mask, Tensor):
        mask = None
    elif mask.ndim == 2:
        mask = mask[:, -call.key.shape[2] :].gather(1, columns)
    else:
        wide = columns[:, None, None].expand(-1, mask.shape[1], mask.shape[2], -1)
        mask = mask.expand(len(columns), -1, -1, -1).gather(3, wide)
    if real is not None:
        if mask is None:
            mask = real if call.is_flash else real[:, None, None]
        elif mask.ndim == 2:
            mask = mask.bool() & real
        elif mask.dtype == torch.bool:
            mask = mask & real[:, None, None]
        else:
            mask = mask.masked_fill(~real[:, None, None], torch.finfo(mask.dtype).min)
    return call.run(key=picked(call.key), value=picked(call.value), mask=mask)[0]
