"""The columns that each layer of a decoder holds, and what is cut to them: masks and rotations.

Shape suffixes: B batch, L sequence, N columns held, A width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparsight.core.errors import UserError
from sparsight.llm.layout import Layout


@dataclass(frozen=True)
class Columns:
    """The part of the unpruned sequence whose keys a layer holds, in order.

    columns  (B, N) long  columns of the unpruned sequence
    token    (B, N) bool  false where a row shorter than the longest holds filling; None: nowhere
    total    columns there were in the unpruned sequence; later ones are all held
    """

    columns: Tensor
    token: Tensor | None
    total: int


@dataclass
class Pass:
    """One forward of the decoder, followed from layer 0 on."""

    seen: int  # columns the cache held before
    length: int  # columns that are new
    layout: Layout | None  # of the new columns; None when nothing is to be edited
    slots: Tensor | None = None  # (B, L) which new columns are left; None: all
    origin: Tensor | None = None  # (B, L) the columns whose tokens they hold: `slots` if in order
    filled: bool = False  # whether rows keep different counts, so that some hold filling
    rope: Any = None  # rotary embeddings of the tokens that are left
    position_ids: Tensor | None = None
    # Layers between two edits share what is computed for them. Keys are ids of objects that the
    # entry holds on to, so that no other object can get the same id.
    known: dict[tuple[int, int], tuple[Any, ...]] = field(default_factory=dict)

    def columns(self, held: Columns | None) -> Columns:
        """What a layer attends to now, if its cache held `held` before (None: everything)."""
        key = id(held), id(self.slots)
        if key not in self.known:
            self.known[key] = self._columns(held), held, self.slots
        return self.known[key][0]

    def _columns(self, held: Columns | None) -> Columns:
        total = self.seen + self.length
        if held is None:
            assert self.slots is not None, "nothing was dropped"
            batch, device = len(self.slots), self.slots.device
            old = torch.arange(self.seen, device=device).expand(batch, -1)
        else:
            batch, device = len(held.columns), held.columns.device
            since = torch.arange(held.total, self.seen, device=device).expand(batch, -1)
            old = torch.cat([held.columns, since], 1)
        if self.slots is None:
            new = torch.arange(self.seen, total, device=device).expand(batch, -1)
        else:
            new = self.slots + self.seen
        columns = torch.cat([old, new], 1)
        token = None
        if self.filled or (held is not None and held.token is not None):
            token = torch.ones_like(columns, dtype=torch.bool)
            if held is not None and held.token is not None:
                token[:, : held.token.shape[1]] = held.token
            if self.filled:
                assert self.layout is not None, "only edited passes are filled"
                token[:, old.shape[1] :] = ~self.layout.padding
        return Columns(columns, token, total)

    def mask(self, mask: Any, now: Columns, flash: bool) -> Any:
        """The model's mask cut to what a layer attends to."""
        key = id(mask), id(now)
        if key not in self.known:
            length = self.length if self.slots is None else self.slots.shape[1]
            self.known[key] = cut_mask(mask, now, self.slots, length, flash), mask, now
        return self.known[key][0]


def take_rope(rope: Any, take: Tensor) -> Any:
    """Cut rotary embeddings, a tuple of (B or 1, L, A), to the kept columns."""
    if rope is None:
        return None
    return tuple(
        part.expand(len(take), -1, -1).gather(1, take[..., None].expand(-1, -1, part.shape[-1]))
        for part in rope
    )


def cut_mask(mask: Any, now: Columns, queries: Tensor | None, length: int, flash: bool) -> Any:
    """A mask over the unpruned sequence, cut to the queries and keys of a shortened layer.

    Args:
        mask: None (causal), (B, K) for Flash, or (B, 1, L, K) bool or additive.
        now: the columns the layer attends to; the last `length` are the queries.
        queries: (B, length) which of the L rows are left; None for all.
    """
    token, columns = now.token, now.columns
    if mask is None:
        if token is None or flash:
            return token
        own = columns[:, -length:, None]
        seen = (columns[:, None] <= own) & token[:, None]
        return (seen | (columns[:, None] == own))[:, None]
    if not isinstance(mask, Tensor):
        raise UserError("tokens cannot be dropped inside the LLM under flex_attention: use sdpa")
    if mask.ndim == 2:
        cut = mask.gather(1, columns)
        return cut if token is None else cut & token
    mask = mask.expand(len(columns), -1, -1, -1)
    heads, keys = mask.shape[1], mask.shape[3]
    if queries is not None:
        mask = mask.gather(2, queries[:, None, :, None].expand(-1, heads, -1, keys))
    cut = mask.gather(3, columns[:, None, None].expand(-1, heads, length, -1))
    if token is None:
        return cut
    # Filling sees itself, lest a row without any key turn into NaN.
    own = columns[:, None, None] == columns[:, None, -length:, None]
    if cut.dtype == torch.bool:
        return cut & token[:, None, None] | own
    hidden = torch.finfo(cut.dtype).min
    return cut.masked_fill(~token[:, None, None], hidden).masked_fill(own, 0.0)
