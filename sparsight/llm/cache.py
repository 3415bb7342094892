"""What a key-value cache really holds, counted from its tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache


def kv_bytes(cache: Cache) -> int:
    """Bytes of every tensor the cache holds, keys, values and states of any layer type alike.

    Tensors that share storage are counted by their own size: a view counts as what it shows.
    """
    return sum(
        tensor.numel() * tensor.element_size() for layer in cache.layers for tensor in _held(layer)
    )


def kv_tokens(cache: Cache) -> list[int]:
    """Tokens whose keys each layer holds; 0 for a layer that is empty or keeps no keys."""
    counts = []
    for layer in cache.layers:
        keys: Any = getattr(layer, "keys", None)
        held = isinstance(keys, Tensor) and keys.numel() > 0
        counts.append(keys.shape[-2] if held else 0)
    return counts


def _held(layer: object) -> list[Tensor]:
    """The tensors of a cache layer that stand in for the past: keys, values, recurrent states."""
    found: list[Tensor] = []
    for value in vars(layer).values():
        # Recurrent layers number their states in a dict.
        values = value.values() if isinstance(value, dict) else [value]
        # Counters and window sizes are 0-d tensors; what is held has a batch axis.
        found += [item for item in values if isinstance(item, Tensor) and item.ndim >= 2]
    return found
