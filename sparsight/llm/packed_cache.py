"""A key-value cache in few bits: keys per channel, values per token.

Keys have channels that are large in every token, values do not: so `group` neighbouring tokens
share a step in each channel of the keys, `group` neighbouring channels in each token of the values
(the layout of KIVI, arXiv:2402.02750). The most recent tokens stay in full precision. Keys are
quantised as they are cached, after rotation.

transformers' own quantised cache takes further packages for its arithmetic, quantises keys and
values along the same axis, and all that it holds anew each time its window is full.

Shape suffixes: B batch, G key heads, L tokens, A width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from sparsight.ops.low_bit import dequantize, pack, quantize, unpack

Parts = dict[str, Tensor]


def packed_cache(
    layers: int, bits: int, group: int, window: int, padding: Tensor | None = None
) -> Cache:
    """A cache for a decoder of so many layers.

    Args:
        bits: of a number: 2, 4 or 8.
        group: tokens (keys) or channels (values) that share a step. Where the width of a head is
            no multiple of it, all channels of a head do.
        window: most recent tokens in full precision; between two roundings there are up to
            group - 1 more.
        padding: (B, L) bool, the columns of the prompt that hold no token, on the left: they leave
            the steps of their neighbours alone, so that a row is quantised as it is by itself. A
            layer that is given fewer columns cannot tell and takes them for tokens.
    """
    return Cache([PackedLayer(bits, group, window, padding) for _ in range(layers)])


class PackedLayer(DynamicLayer):
    """The cache of one layer; `keys` and `values` are what it holds, in full precision.

    What it stores is `stored_keys` and `stored_values`: "recent" (B, G, R, A), and once there is
    more than the window, "codes", "step" and "low" of what came before.
    """

    is_initialized: bool

    def __init__(self, bits: int, group: int, window: int, padding: Tensor | None = None) -> None:
        self.bits, self.group, self.window = bits, group, window
        self.since = 0  # tokens since recent ones were last packed
        self.stored_keys: Parts = {}
        self.stored_values: Parts = {}
        super().__init__()  # sets keys and values
        self.prompt = 0 if padding is None else padding.shape[1]
        self.padded = None if padding is None else padding.sum(1)  # (B,) of what is not yet packed

    # ---- what transformers asks of a layer ---------------------------------------------------

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append (B, G, L, A) keys and values; returns all that is held.

        What is new is returned as it is: a prompt is read in full precision.
        """
        first, count = not self.is_initialized, key_states.shape[2]
        if first:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
            if count != self.prompt:
                self.padded = None
        _append(self.stored_keys, key_states)
        _append(self.stored_values, value_states)
        held = self.keys, self.values
        self.since += count
        if first or self.since >= self.group:
            self.since = 0 if first else self.since % self.group
            self._pack()
        return held

    def get_seq_length(self) -> int:
        return sum(self.stored_keys[part].shape[2] for part in _PARTS if part in self.stored_keys)

    def reset(self) -> None:
        self.stored_keys, self.stored_values = {}, {}
        self.is_initialized, self.since, self.padded = False, 0, None

    # What transformers or an edit does to keys and values is done to what they stand for.

    @property
    def keys(self) -> Any:
        return _whole(self.stored_keys, self._unpacked_keys)

    @keys.setter
    def keys(self, states: Tensor | None) -> None:
        self.stored_keys = {} if states is None else {"recent": states}
        self.padded = None
        self._pack()

    @property
    def values(self) -> Any:
        return _whole(self.stored_values, self._unpacked_values)

    @values.setter
    def values(self, states: Tensor | None) -> None:
        self.stored_values = {} if states is None else {"recent": states}
        self._pack()

    # ---- packing -----------------------------------------------------------------------------

    def _pack(self) -> None:
        """Pack all recent tokens but the window and those that came since."""
        old = self._old(self.stored_keys)
        if old is not None:
            self._pack_keys(old)
            if self.padded is not None:
                self.padded = (self.padded - old.shape[2]).clamp_min(0)
        old = self._old(self.stored_values)
        if old is not None:
            self._pack_values(old)

    def _old(self, parts: Parts) -> Tensor | None:
        """Take what is to be packed now (B, G, L, A) out of the recent tokens."""
        recent = parts.get("recent")
        if recent is None or recent.shape[2] <= self.window + self.since:
            return None
        count = recent.shape[2] - self.window - self.since
        parts["recent"] = recent[:, :, count:].clone()  # a view would hold on to the rest
        return recent[:, :, :count]

    def _pack_keys(self, old: Tensor) -> None:
        # Groups are counted from the end, where the rows of a batch stand together: the first one
        # may be short, and is filled up on the left.
        short = -old.shape[2] % self.group
        column = torch.arange(-short, old.shape[2], device=old.device)
        first = 0 if self.padded is None else self.padded.to(old.device)[:, None]
        unused = (column < first).expand(len(old), -1).unflatten(1, (-1, self.group))
        grouped = functional.pad(old, (0, 0, short, 0)).unflatten(2, (-1, self.group))
        codes, step, low = quantize(grouped, self.bits, 3, unused[:, None, :, :, None])
        _append(self.stored_keys, pack(codes.flatten(2, 3)[:, :, short:], self.bits), "codes")
        _append(self.stored_keys, step[:, :, :, 0], "step")
        _append(self.stored_keys, low[:, :, :, 0], "low")

    def _unpacked_keys(self, width: int) -> Tensor:
        parts = self.stored_keys
        codes = unpack(parts["codes"], self.bits, width)
        step, low = (
            parts[name].repeat_interleave(self.group, 2)[:, :, -codes.shape[2] :]
            for name in ("step", "low")
        )
        return dequantize(codes, step, low)

    def _pack_values(self, old: Tensor) -> None:
        grouped = old.unflatten(3, (-1, self._channels(old.shape[3])))
        codes, step, low = quantize(grouped, self.bits, 4)
        _append(self.stored_values, pack(codes.flatten(3), self.bits), "codes")
        _append(self.stored_values, step[..., 0], "step")
        _append(self.stored_values, low[..., 0], "low")

    def _unpacked_values(self, width: int) -> Tensor:
        parts = self.stored_values
        codes = unpack(parts["codes"], self.bits, width).unflatten(3, (-1, self._channels(width)))
        return dequantize(codes, parts["step"][..., None], parts["low"][..., None]).flatten(3)

    def _channels(self, width: int) -> int:
        """Channels of a value that share a step."""
        return width if width % self.group else self.group


_PARTS = ("codes", "recent")  # those that count tokens


def _append(parts: Parts, more: Tensor, name: str = "recent") -> None:
    parts[name] = torch.cat([parts[name], more], 2) if name in parts else more


def _whole(parts: Parts, unpacked: Callable[[int], Tensor]) -> Tensor | None:
    if not parts:
        return None
    recent = parts["recent"]
    if "codes" not in parts:
        return recent
    return torch.cat([unpacked(recent.shape[3]), recent], 2)
