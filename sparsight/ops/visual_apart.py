"""Attention in which a visual token sees the text before it and itself, but no other visual token.

Shapes: B batch, H heads, G key heads, L tokens, A width of a head, N visual tokens, S text tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sparsight.ops.row_choice import columns_of

_BLOCK = 1024  # visual queries at a time: bounds memory, not the result


def visual_apart(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visual: Tensor,
    padding: Tensor,
    heads: Tensor,
    scaling: float,
    renormalise: bool = True,
    among: Tensor | None = None,
) -> Tensor:
    """Causal attention over a whole prompt whose visual tokens do not see one another.

    Args:
        query: (B, H, L, A); key, value (B, G, L, A).
        visual: (B, L) bool; padding (B, L) bool, no token.
        heads: (H,) bool, the heads that look at visual tokens. In the others text sees none of
            them, and what visual tokens gather is zero.
        renormalise: whether text in those other heads spreads its attention over what it sees;
            otherwise the weights on visual tokens are cut out and the rest stays as it was.
        among: (B, L, H, A) what visual tokens gather if they do see one another.

    Returns (B, L, H, A); rows of padding are zero. Without `among` the cost is N * S + S * L, not
    L * L.
    """
    out = torch.zeros_like(query.transpose(1, 2))
    text = ~visual & ~padding
    words = columns_of(text)
    column = torch.arange(query.shape[2], device=query.device)
    allowed = (column <= words[..., None]) & ~padding[:, None]
    allowed = allowed | (column == words[..., None])  # filling sees itself, lest it be empty
    said = text_attention(
        _columns(query, words), key, value, allowed, visual, heads, scaling, renormalise
    )
    out[text] = said[_real(words, text)]
    if among is not None:
        out[visual] = (among * heads[:, None])[visual]
    elif bool(visual.any()):
        seen = columns_of(visual)
        gathered = _alone(query, key, value, words, seen, text, scaling) * heads[:, None]
        out[visual] = gathered[_real(seen, visual)]
    return out


def text_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    visual: Tensor,
    heads: Tensor,
    scaling: float,
    renormalise: bool = True,
) -> Tensor:
    """Attention of text queries (B, H, S, A) to keys (B, G, K, A) -> (B, S, H, A).

    `allowed` (B, S, K) bool, `visual` (B, K) bool; the rest as in `visual_apart`.
    """
    repeat = query.shape[1] // key.shape[1]
    mask = allowed[:, None].expand(-1, query.shape[1], -1, -1)
    blind = visual[:, None] & ~heads[None, :, None]  # (B, H, K)
    if renormalise:
        mask = mask & ~blind[:, :, None]
    elif not bool(heads.all()):
        # A value of zero is a weight cut out: the softmax stays as it was.
        value = value.repeat_interleave(repeat, 1).masked_fill(blind[..., None], 0.0)
        key = key.repeat_interleave(repeat, 1)
    out = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
    )
    return out.transpose(1, 2)


def _alone(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    words: Tensor,
    seen: Tensor,
    text: Tensor,
    scaling: float,
) -> Tensor:
    """What the queries in the columns `seen` (B, N) gather from the text before them, in the
    columns `words` (B, S), and from themselves: (B, N, H, A)."""
    count, groups = query.shape[1], key.shape[1]
    key_text, value_text = _columns(key, words), _columns(value, words)
    real = text.gather(1, words)
    parts = []
    for block in seen.split(_BLOCK, 1):
        picked = _columns(query, block).float().unflatten(1, (groups, count // groups))
        own_key, own_value = _columns(key, block).float(), _columns(value, block).float()
        logits = torch.einsum("bghna,bgsa->bghns", picked, key_text.float()) * scaling
        before = (words[:, None] < block[..., None]) & real[:, None]
        logits = logits.masked_fill(~before[:, None, None], float("-inf"))
        own = (picked * own_key[:, :, None]).sum(-1, keepdim=True) * scaling
        weight = torch.cat([logits, own], -1).softmax(-1)
        out = torch.einsum("bghns,bgsa->bghna", weight[..., :-1], value_text.float())
        out = out + weight[..., -1:] * own_value[:, :, None]
        parts.append(out.flatten(1, 2))
    return torch.cat(parts, 2).transpose(1, 2).to(query.dtype)


def _columns(x: Tensor, columns: Tensor) -> Tensor:
    """(B, H, L, A) at the columns (B, S) of each row -> (B, H, S, A)."""
    return x.gather(2, columns[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def _real(columns: Tensor, mask: Tensor) -> Tensor:
    """Which of `columns` (B, R) are named by the mask and not filled up."""
    return torch.arange(columns.shape[1], device=mask.device) < mask.sum(1)[:, None]
