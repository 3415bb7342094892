"""Positions with gaps under flash attention.

At batch 1 and without a mask, transformers' flash attention takes a gap in the position ids for
the border between two packed sequences, and tokens behind it no longer see those before it. The
rotary embeddings are computed before the layers, so the layers can do without the ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from sparsight.llm.attention import layers_of


@contextmanager
def gaps_allowed(decoder: nn.Module) -> Iterator[None]:
    """Keep position ids from the layers of a decoder that runs flash attention."""
    config: Any = decoder.config
    with ExitStack() as hooks:
        if "flash" in (config._attn_implementation or ""):
            for layer in layers_of(decoder):
                hook = layer.register_forward_pre_hook(_without_ids, with_kwargs=True)
                hooks.callback(hook.remove)
        yield


def _without_ids(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    if kwargs.get("position_ids") is None:
        return None
    return args, {**kwargs, "position_ids": None}
