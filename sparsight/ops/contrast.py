"""Holding one distribution over the next token against another."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def contrast(logits: Tensor, second: Tensor, alpha: float, beta: float) -> Tensor:
    """(1 + alpha) * logits - alpha * second, of the tokens that `logits` finds plausible.

    Args:
        logits, second: (B, V) of two prompts. What `second` favours is held against a token.
        alpha: how much; 0 leaves `logits` as they are, bit for bit.
        beta: a token less probable than this share of the likeliest one, both by `logits`, is
            ruled out (minus infinity), whatever the contrast makes of it; 0 rules out none.

    Contrastive decoding with an adaptive cutoff, arXiv:2210.15097, as arXiv:2410.04514 uses it.
    """
    least = -math.inf if beta == 0 else math.log(beta)
    cutoff = logits.amax(-1, keepdim=True) + least
    mixed = (1 + alpha) * logits - alpha * second
    return torch.where(logits < cutoff, -math.inf, mixed)
