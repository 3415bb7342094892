"""Other rotary frequencies while a decoder runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sparsight.core.errors import UserError

#: Kinds of rotary embedding that compute their frequencies anew as the sequence grows.
_GROWING = ("dynamic", "longrope")


def frequencies(decoder: nn.Module) -> Tensor:
    """The inverse frequencies (A / 2,) that a decoder of head width A rotates by.

    Raises `UserError` for a decoder without rotary positions, and for one that changes them while
    it runs: keys in the cache would not fit those that come.
    """
    rotary: Any = getattr(decoder, "rotary_emb", None)
    inverse = getattr(rotary, "inv_freq", None)
    if inverse is None:
        raise UserError("this LLM has no rotary positions to stretch")
    if getattr(rotary, "rope_type", "default") in _GROWING:
        raise UserError(
            f"this LLM stretches its rotary positions itself ({rotary.rope_type}): leave that to it"
        )
    return inverse


@contextmanager
def rotating(decoder: nn.Module, inverse: Tensor) -> Iterator[None]:
    """Let a decoder rotate by other frequencies, prefill and decoding alike.

    Args:
        inverse: (B, A / 2), for each row of the batch. With several position axes (M-RoPE) each
            axis keeps its share of them.

    What is cached meanwhile is of use under the same frequencies alone. Other calls of the decoder
    see them too: this is for one request at a time.
    """
    rotary: Any = decoder.rotary_emb
    before = frequencies(decoder)
    alike = bool((inverse == inverse[:1]).all())
    # (B, 1, A / 2) goes with positions (B, L, 1) and (P, B, L, 1).
    rotary.inv_freq = inverse[0] if alike else inverse[:, None]
    try:
        yield
    finally:
        rotary.inv_freq = before
