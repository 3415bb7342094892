"""What the question looks at in a decoder's first layer, read without running the layer.

Shape suffixes: L sequence, D width, P position axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparsight.llm.attention import look_ahead
from sparsight.llm.layout import Layout
from sparsight.ops.row_choice import columns_of


def question_attention(
    decoder: nn.Module, embeds: Tensor, positions: Tensor, layout: Layout
) -> Tensor:
    """The attention that each token of one prompt gets in layer 0, (L,) float32.

    Averaged over heads and over the text behind the last medium: the question and what the chat
    template puts behind it. Norm, projections and rotation of the layer are run on all tokens, its
    attention on these rows alone, its output and MLP not at all.

    Args:
        embeds: (1, L, D), with all media in it.
        positions: (1, L), or (P, 1, L) with M-RoPE.
    """
    assert layout.batch == 1, "one prompt at a time"
    part: Any = decoder
    with torch.no_grad():
        rope = part.rotary_emb(embeds, positions)
        rows = columns_of(layout.words)
        found = look_ahead(
            decoder, 0, rows, embeds, "mean", layout=layout,
            attention_mask=None, position_embeddings=rope,
        )  # fmt: skip
    assert found is not None, "layer 0 gave no rows"
    return found[0].mean(0)
