"""Merging tokens inside a vision tower without forking it.

Works on towers of plain pre-norm blocks whose attention has `q_proj` and `k_proj` (CLIP, SigLIP,
SmolVLM's and InternVL's towers). Shapes: V views, N tokens of a view (CLS included where there
is one), n tokens that are left, a head width, C = heads * a.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparsight.core.meter import metered
from sparsight.ops.merge import Matching

_NORMS = (("layer_norm1", "layer_norm2"), ("layernorm_before", "layernorm_after"))


def attention_of(block: nn.Module) -> nn.Module:
    """The attention module of a tower block."""
    found: nn.Module = getattr(block, "self_attn", None) or block.attention  # type: ignore[assignment]
    return found


def can_observe(blocks: Sequence[nn.Module]) -> bool:
    """Whether queries and keys can be read from these blocks."""
    return bool(blocks) and all(
        any(hasattr(block, name) for name in ("self_attn", "attention"))
        and hasattr(attention_of(block), "q_proj")
        and hasattr(attention_of(block), "k_proj")
        for block in blocks
    )


def can_merge(blocks: Sequence[nn.Module]) -> bool:
    """Whether tokens can be merged between attention and MLP of these blocks."""
    return can_observe(blocks) and all(
        any(hasattr(block, first) and hasattr(block, second) for first, second in _NORMS)
        for block in blocks
    )


def _heads(attention: nn.Module) -> int:
    return int(getattr(attention, "num_heads", 0) or getattr(attention, "num_attention_heads", 0))


def _normed(attention: nn.Module, name: str, value: Tensor) -> Tensor:
    norm = getattr(attention, name, None)
    return value if norm is None else norm(value)


@dataclass
class TowerMerge:
    """Merging of tokens between attention and MLP of every block, and what became of them.

    match     (metric (V, N, a), block index) -> Matching, or None to leave the block alone
    removed   how many tokens go in each block, as far as there are enough
    weighted  add log(size) to the attention logits, so that a merged token counts as its members

    While the tower runs, `size` (V, n) is how many tokens each current token stands for.
    `sources[i]` (V, N) is the token that each original token had gone into when the attention
    of block i ran (None: nothing merged yet), with one entry more for what left the last block;
    `counts[i]` is the number of tokens after block i.
    """

    match: Callable[[Tensor, int], Matching | None]
    removed: Sequence[int]
    weighted: bool = True
    size: Tensor | None = None
    sources: list[Tensor | None] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @property
    def bias(self) -> Tensor | None:
        """log(size) as an additive mask (V, 1, 1, n), or None while nothing is merged."""
        if self.size is None or not self.weighted:
            return None
        return self.size.log()[:, None, None, :]

    @property
    def source(self) -> Tensor | None:
        """The token of the output that each original token went into (V, N)."""
        return self.sources[-1] if self.sources else None

    def restore(self, value: Tensor, block: int | None = None) -> Tensor:
        """Give (V, n, S) back to every original token: (V, N, S).

        `value` is over the tokens that the attention of `block` saw, or over the output.
        """
        source = self.source if block is None else self.sources[block]
        if source is None:
            return value
        return value.gather(1, source[..., None].expand(-1, -1, value.shape[-1]))

    def step(self, hidden: Tensor, metric: Tensor, block: int) -> Tensor:
        """Merge (V, n, C) hidden states after the attention of `block`."""
        if not self.sources:
            self.sources.append(None)
        source = self.source
        matching = self.match(metric, block)
        if matching is not None:
            size = self.size
            if size is None:
                size = torch.ones(hidden.shape[:2], device=hidden.device)
            hidden, self.size = matching.average(hidden, size)
            source = matching.target if source is None else matching.target.gather(1, source)
        self.sources.append(source)
        self.counts.append(hidden.shape[1])
        return hidden


@contextmanager
def merging(blocks: Sequence[nn.Module], merge: TowerMerge | None) -> Iterator[None]:
    """Run the tower with `merge` between attention and MLP of each block."""
    if merge is None:
        yield
        return
    try:
        for index, block in enumerate(blocks):
            block.forward = _merged_forward(block, index, merge)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _merged_forward(block: nn.Module, index: int, merge: TowerMerge) -> Callable[..., Tensor]:
    first, second = next(pair for pair in _NORMS if hasattr(block, pair[0]))
    attention = attention_of(block)
    scales = [getattr(block, name, None) for name in ("lambda_1", "lambda_2")]

    def scaled(value: Tensor, scale: Tensor | None) -> Tensor:
        return value if scale is None else value * scale

    def forward(hidden_states: Tensor, attention_mask: Tensor | None = None, **kw: Any) -> Tensor:
        keys: list[Tensor] = []
        hook = attention.k_proj.register_forward_hook(  # type: ignore[union-attr]
            lambda _, __, out: keys.append(_normed(attention, "k_norm", out))
        )
        bias = merge.bias
        mask = attention_mask
        if bias is not None:
            bias = bias.to(hidden_states.dtype)
            mask = bias if mask is None else mask + bias
        try:
            normed = getattr(block, first)(hidden_states)
            attended, *_ = attention(hidden_states=normed, attention_mask=mask, **kw)
        finally:
            hook.remove()
        hidden = hidden_states + scaled(attended, scales[0])
        metric = keys[0].unflatten(-1, (_heads(attention), -1)).mean(2)
        with metered():
            hidden = merge.step(hidden, metric, index)
        return hidden + scaled(block.mlp(getattr(block, second)(hidden)), scales[1])  # type: ignore[operator]

    return forward
