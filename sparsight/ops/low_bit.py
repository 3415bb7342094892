"""Numbers in few bits: groups of neighbours share a lowest value and a step.

x is read as low + step * code, with codes from 0 to 2 ** bits - 1 packed into bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def quantize(
    x: Tensor, bits: int, dim: int, unused: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, steps and lowest values of a tensor in which each group lies along `dim`.

    Args:
        x: of any shape.
        bits: of a code: 2, 4 or 8.
        dim: the axis whose entries share a step.
        unused: bool, to be broadcast to x: entries that shall not widen the range of their group
            (they get the nearest code).

    Returns codes as x, uint8, unpacked; steps and lowest values of x's type, with `dim` of size 1.
    The error of an entry is at most half a step, up to the rounding of the type.
    """
    wide = x.float()
    low, high = wide, wide
    if unused is not None:
        low, high = wide.masked_fill(unused, torch.inf), wide.masked_fill(unused, -torch.inf)
    low, high = low.amin(dim, keepdim=True), high.amax(dim, keepdim=True)
    empty = low > high  # no entry is used
    low, high = low.masked_fill(empty, 0), high.masked_fill(empty, 0)
    # What is stored is what the codes are made with: rounding it later would shift them all.
    low = low.to(x.dtype)
    step = ((high - low.float()) / (2**bits - 1)).to(x.dtype)
    step = torch.where(step > 0, step, torch.ones_like(step))
    codes = ((wide - low.float()) / step.float()).round().clamp(0, 2**bits - 1)
    return codes.to(torch.uint8), step, low


def dequantize(codes: Tensor, step: Tensor, low: Tensor) -> Tensor:
    """The numbers that codes stand for, of the type of `step`."""
    return torch.addcmul(low.float(), codes.float(), step.float()).to(step.dtype)


def pack(codes: Tensor, bits: int) -> Tensor:
    """(..., N) codes of `bits` bits -> (..., ceil(N * bits / 8)) bytes."""
    each = 8 // bits
    rows = functional.pad(codes, (0, -codes.shape[-1] % each)).unflatten(-1, (-1, each))
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
    return (rows << shifts).sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, size: int) -> Tensor:
    """The (..., size) codes that `pack` has packed."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> shifts) & (2**bits - 1)).flatten(-2)[..., :size]
