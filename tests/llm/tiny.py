"""Tiny decoders of random weights, and a decoding loop that recomputes everything from scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from sparsight.llm.edits import Edit
from sparsight.llm.layout import Layout

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
IMAGE, VIDEO, START, END = 94, 95, 96, 97


def qwen2() -> Any:
    """Grouped queries, biases."""
    return _ready(Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2)))


def llama() -> Any:
    """As many key heads as query heads."""
    return _ready(LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)))


def qwen25vl() -> Any:
    """M-RoPE."""
    vision = {
        "depth": 1, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 32,
        "num_heads": 4, "fullatt_block_indexes": [0],
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {**SIZES, "num_key_value_heads": 2, "rope_parameters": rope}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_placeholders())
    return _ready(Qwen2_5_VLForConditionalGeneration(config))


def qwen3vl() -> Any:
    """Interleaved M-RoPE, q and k norms, DeepStack after the first two layers."""
    vision = {
        "depth": 3, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 32,
        "num_heads": 4, "patch_size": 8, "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    text = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "rope_parameters": rope}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, **_placeholders())
    return _ready(Qwen3VLForConditionalGeneration(config))


def _placeholders() -> dict[str, int]:
    return {
        "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START,
        "vision_end_token_id": END,
    }  # fmt: skip


def _ready(model: Any) -> Any:
    # Large weights: attention is then far from even, and a wrong token changes the logits.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "visual" not in name:
                weight.mul_(6)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval()


def decoder_of(model: Any) -> Any:
    return getattr(model.model, "language_model", model.model)


def prompt(model: Any, batch: int = 1, length: int = 20) -> Tensor:
    """(B, L, D) embeddings of random ids."""
    ids = torch.randint(1, 90, (batch, length))
    return decoder_of(model).embed_tokens(ids).detach()


def layout_of(mask: Tensor, first: int = 4, count: int = 10) -> Layout:
    """`count` visual tokens from the `first` token of each row on (padding not counted)."""
    rank = mask.long().cumsum(1) - 1
    visual = (rank >= first) & (rank < first + count) & mask.bool()
    return Layout.of(mask, visual)


def mrope(mask: Tensor, first: int = 4, grid: tuple[int, int, int] = (1, 2, 5)) -> Tensor:
    """(3, B, L) positions: text, a (t, h, w) grid from `first` on, text from its largest on."""
    rows = []
    for row in mask.bool():
        length = int(row.sum())
        place = torch.cartesian_prod(*[torch.arange(n) for n in grid]).T + first
        rest = length - first - place.shape[1]
        before = torch.arange(first).expand(3, -1)
        after = (torch.arange(rest) + int(place.max()) + 1).expand(3, -1)
        whole = torch.cat([before, place, after], 1)
        rows.append(torch.cat([torch.zeros(3, len(row) - length, dtype=torch.long), whole], 1))
    return torch.stack(rows, 1)


@dataclass(frozen=True)
class Using:
    """An edit made of a function, asking for the last row of scores or for nothing."""

    layer: int
    choose: Callable[[Tensor, Layout, Tensor | None], Edit]
    wanted: Any = None
    heads: Any = "mean"

    def rows(self, layout: Layout) -> Any:
        return self.wanted

    def edit(self, hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        return self.choose(hidden, layout, scores)


def dropping(layer: int, *, every: int = 2, positions: Any = "keep") -> Using:
    """Keep every n-th visual token of each row."""

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        rank = layout.prunable.long().cumsum(1) - 1
        return Edit(~layout.prunable | (rank % every == 0), positions=positions)

    return Using(layer, choose)


def fastv(layer: int, keep: int) -> Using:
    """Keep the visual tokens the last token attends to most."""

    def choose(hidden: Tensor, layout: Layout, scores: Tensor | None) -> Edit:
        assert scores is not None
        ranked = scores[:, 0].masked_fill(~layout.prunable, -1.0)
        best = torch.zeros_like(layout.prunable).scatter_(1, ranked.topk(keep).indices, True)
        return Edit(~layout.prunable | best)

    return Using(layer, choose, "last")


def from_scratch(
    model: Any,
    embeds: Tensor,
    positions: Tensor,
    kept: dict[int, Tensor],
    steps: int,
    renumbered: bool = False,
) -> tuple[list[Tensor], list[int]]:
    """Greedy decoding of one prompt that runs the whole sequence anew for every token.

    Args:
        embeds: (1, L, D). positions: (L,) or (3, L). kept: layer -> columns that reach it.
        renumbered: from the first of these layers on, prompt tokens stand at 0, 1, 2, ...

    Returns the (V,) logits before each token, and the tokens.
    """
    decoder, length = decoder_of(model), embeds.shape[1]
    logits, tokens = [], []
    for step in range(steps):
        columns = torch.arange(length + step)
        last = positions.max(-1, keepdim=True).values if positions.ndim == 1 else positions.max()
        extra = (last + 1 + torch.arange(step)).expand(*positions.shape[:-1], -1)
        places = torch.cat([positions, extra], -1)
        hidden = embeds
        if tokens:
            hidden = torch.cat([embeds, decoder.embed_tokens(torch.tensor([tokens]))], 1)
        with torch.no_grad():
            for i, layer in enumerate(decoder.layers):
                if i in kept:
                    stays = torch.isin(columns, kept[i]) | (columns >= length)
                    hidden, columns = hidden[:, stays], columns[stays]
                at = places[..., columns]
                if renumbered and len(columns) < length + step:
                    count = int((columns < length).sum())
                    at = torch.cat(
                        [torch.arange(count).expand(*at.shape[:-1], -1), at[..., count:]], -1
                    )
                rope = decoder.rotary_emb(hidden, at[..., None, :])
                mask = (columns[None, :] <= columns[:, None])[None, None]
                hidden = layer(hidden, attention_mask=mask, position_embeddings=rope)
            out = model.lm_head(decoder.norm(hidden[:, -1:]))[0, 0]
        logits.append(out)
        tokens.append(int(out.argmax()))
    return logits, tokens
