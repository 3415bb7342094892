"""Floating-point operations of LLM, vision tower and projector, by formula.

One multiply-add is two operations. Counted are the matrix products (projections, MLP, attention,
patch embedding, LM head); norms, activations, softmax and rotary positions are not, nor does
torch's `FlopCounterMode` count them.

Attention is counted **as it is executed** and as `FlopCounterMode` counts it: SDPA's prefill is
the whole S x S square. Kernels that skip the masked half (flash attention) do half of that:
`causal=True` counts so, which is the formula usually published.

Letters: L layers, d width, h query heads, g key-value heads, a head width, f MLP width,
V vocabulary, S tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sparsight.core.errors import UserError

#: Decoders whose MLP is two plain layers; all others have a gate, hence three.
_UNGATED = frozenset({"bloom", "codegen", "falcon", "gpt2", "gpt_neox", "gptj", "opt", "phi"})

# ---- the LLM -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a text decoder that its cost follows from."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp: int
    vocabulary: int
    gated: bool = True

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer that every token is multiplied with."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        return attention + (3 if self.gated else 2) * self.width * self.mlp

    @property
    def parameters(self) -> int:
        """Parameters in matrix products, the LM head apart: P of the published formula."""
        return self.layers * self.layer_parameters


def decoder_shape(config: Any) -> DecoderShape:
    """The shape of a decoder from its transformers text configuration."""
    heads = config.num_attention_heads
    return DecoderShape(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // heads,
        mlp=config.intermediate_size,
        vocabulary=config.vocab_size,
        gated=config.model_type not in _UNGATED,
    )


def prefill_flops(
    shape: DecoderShape, tokens_per_layer: Sequence[int], logits: int = 1, causal: bool = False
) -> float:
    """Operations of reading a prompt.

    Args:
        tokens_per_layer: L counts, the tokens each layer reads: a system that drops tokens
            inside the LLM makes the later ones smaller. Text and visual tokens together.
        logits: positions that the LM head is applied to; generation needs the last one alone.
        causal: count the attention's lower triangle only, not the square that SDPA executes.
    """
    assert len(tokens_per_layer) == shape.layers, (len(tokens_per_layer), shape.layers)
    pairs = sum(count * count for count in tokens_per_layer) / (2 if causal else 1)
    linear = 2 * shape.layer_parameters * sum(tokens_per_layer)
    return float(linear + _attention(shape) * pairs + _head(shape) * logits)


def decode_flops(shape: DecoderShape, kv_per_layer: Sequence[int], steps: int) -> float:
    """Operations of `steps` decode steps of one token each.

    Args:
        kv_per_layer: L counts, the tokens that each layer's cache holds before the first step.
        steps: forward passes; an answer of n tokens takes n - 1, its first is the prefill's.
    """
    assert len(kv_per_layer) == shape.layers, (len(kv_per_layer), shape.layers)
    grown = shape.layers * steps * (steps + 1) // 2  # step t also attends to t new tokens
    pairs = steps * sum(kv_per_layer) + grown
    return float(steps * (2 * shape.parameters + _head(shape)) + _attention(shape) * pairs)


def budget_for_flops(
    shape: DecoderShape, text_tokens: int, visual_tokens: int, share: float
) -> int:
    """How many visual tokens to keep so that the prefill costs at most `share` of the full one.

    The largest count whose prefill, with `text_tokens` beside it, stays within the share.
    Raises `UserError` where the text and one visual token alone cost more.
    """
    if not 0 < share <= 1:
        raise UserError(f"the share of FLOPs must be above 0 and up to 1, not {share}")

    def cost(count: int) -> float:
        return prefill_flops(shape, [text_tokens + count] * shape.layers)

    limit = share * cost(visual_tokens)
    if cost(1) > limit:
        least = cost(1) / cost(visual_tokens)
        raise UserError(
            f"a share of {share:g} is less than the text costs: use {least:.3g} or more"
        )
    low, high = 1, visual_tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= limit else (low, middle - 1)
    return low


def _attention(shape: DecoderShape) -> int:
    """Operations of one layer for one pair of query and key: QK^T and AV."""
    return 4 * shape.heads * shape.head_width


def _head(shape: DecoderShape) -> int:
    return 2 * shape.width * shape.vocabulary


# ---- the vision tower and the projector --------------------------------------------------------


@dataclass(frozen=True)
class TowerShape:
    """The sizes of a vision transformer that its cost follows from.

    patch     numbers in one patch: channels * height * width (* frames of a temporal patch)
    cls       whether the sequence of a view begins with a CLS token
    merge     side of the square of patches that the tower's own merger makes one token of
    merged    width of the merger's output; 0 for a tower without a merger
    mergers   how many mergers run (more than one with DeepStack)
    window    side of the attention windows in merged cells; 0 where all patches attend to all
    whole     blocks that attend to the whole view although there are windows
    pooled    whether an attention pooling head runs on top (its output is not used by VLMs)
    """

    layers: int
    width: int
    mlp: int
    patch: int
    gated: bool = False
    cls: bool = False
    merge: int = 1
    merged: int = 0
    mergers: int = 1
    window: int = 0
    whole: tuple[int, ...] = ()
    pooled: bool = False


def tower_shape(config: Any) -> TowerShape | None:
    """The shape of a tower from its transformers vision configuration.

    None for a tower that no formula here describes: count it with `counted_flops`.
    """
    read = _TOWERS.get(config.model_type)
    return None if read is None else read(config)


def _plain_tower(config: Any) -> TowerShape:
    return TowerShape(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        mlp=config.intermediate_size,
        patch=config.num_channels * _area(config.patch_size),
        cls=config.model_type in ("clip_vision_model", "internvl_vision"),
        pooled=bool(getattr(config, "vision_use_head", False)),
    )


def _merging_tower(config: Any) -> TowerShape:
    """The towers of the Qwen-VL line: temporal patches in, merged tokens out."""
    # The first of them calls its own width embed_dim and the merger's output hidden_size.
    width = getattr(config, "embed_dim", None) or config.hidden_size
    merge = config.spatial_merge_size
    shape = TowerShape(
        layers=config.depth,
        width=width,
        mlp=getattr(config, "intermediate_size", None) or int(width * config.mlp_ratio),
        patch=config.in_channels * config.temporal_patch_size * _area(config.patch_size),
        merge=merge,
        merged=getattr(config, "out_hidden_size", None) or config.hidden_size,
        mergers=1 + len(getattr(config, "deepstack_visual_indexes", ())),
    )
    if config.model_type != "qwen2_5_vl_vision":
        return shape
    return replace(
        shape,
        gated=True,
        window=config.window_size // merge // config.patch_size,
        whole=tuple(config.fullatt_block_indexes),
    )


_TOWERS: dict[str, Callable[[Any], TowerShape]] = {
    "clip_vision_model": _plain_tower,
    "siglip_vision_model": _plain_tower,
    "internvl_vision": _plain_tower,
    "smolvlm_vision": _plain_tower,
    "video_llama_3_vision": _plain_tower,
    "qwen2_vl_vision": _merging_tower,
    "qwen2_5_vl_vision": _merging_tower,
    "qwen3_vl_vision": _merging_tower,
}


def tower_flops(
    shape: TowerShape,
    tokens_per_block: Sequence[int],
    views: int = 1,
    grid: tuple[int, int] | None = None,
) -> float:
    """Operations of encoding `views` views of one size: patch embedding, blocks, merger.

    Args:
        tokens_per_block: tokens of one view that enter each block, CLS included. One further
            entry gives the tokens that leave the last block. Merging happens between attention
            and MLP, so a block's MLP works on the tokens that enter the next one.
        views: pictures, tiles or frames; temporal patches where the tower joins frames.
        grid: rows and columns of patches, which a tower with windows needs.
    """
    counts = list(tokens_per_block)
    if len(counts) == shape.layers:
        counts.append(counts[-1])
    assert len(counts) == shape.layers + 1, (len(counts), shape.layers)
    embedding = 2 * (counts[0] - shape.cls) * shape.patch * shape.width
    blocks = 0
    for block, (before, after) in enumerate(pairwise(counts)):
        pairs = before**2
        if shape.window and block not in shape.whole:
            assert grid is not None, "a tower with windows needs the grid"
            assert before == grid[0] * grid[1], (grid, before)
            pairs = _window_pairs(grid, shape.window * shape.merge)
        blocks += 8 * before * shape.width**2 + 4 * pairs * shape.width
        blocks += 2 * (3 if shape.gated else 2) * after * shape.width * shape.mlp
    head = _merger(shape, counts[-1]) + _pooling_head(shape, counts[-1])
    return float(views * (embedding + blocks + head))


def _area(patch: int | Sequence[int]) -> int:
    return patch * patch if isinstance(patch, int) else patch[0] * patch[1]


def _window_pairs(grid: tuple[int, int], side: int) -> int:
    """Pairs of patches that share a window when a grid is cut into squares of `side` patches."""
    rows, columns = (
        [min(side, length - start) for start in range(0, length, side)] for length in grid
    )
    return sum((row * column) ** 2 for row in rows for column in columns)


def _merger(shape: TowerShape, patches: int) -> int:
    if not shape.merged:
        return 0
    wide = shape.width * shape.merge**2
    return shape.mergers * 2 * (patches // shape.merge**2) * wide * (wide + shape.merged)


def _pooling_head(shape: TowerShape, tokens: int) -> int:
    """One learned query that attends to all tokens, then an MLP."""
    if not shape.pooled:
        return 0
    attention = 4 * (1 + tokens) * shape.width**2 + 4 * tokens * shape.width
    return attention + 4 * shape.width * shape.mlp


def projector_widths(config: Any) -> tuple[int, ...]:
    """Widths from the tower's features to the LLM's input, from a VLM's configuration.

    Empty where the tower's own merger is the projector.
    """
    seen, read = config.vision_config, config.text_config.hidden_size
    kind = config.model_type
    if kind.startswith("qwen"):
        return ()
    if kind == "smolvlm":
        return (seen.hidden_size * config.scale_factor**2, read)
    if kind == "internvl":
        return (seen.hidden_size * int(1 / config.downsample_ratio) ** 2, read, read)
    layer = getattr(config, "vision_feature_layer", -1)
    joined = 1 if isinstance(layer, int) else len(layer)
    return (seen.hidden_size * joined, read, read)


def projector_flops(widths: Sequence[int], tokens: int) -> float:
    """Operations of a chain of linear layers of these widths on `tokens` tokens."""
    return float(sum(2 * tokens * before * after for before, after in pairwise(widths)))


# ---- whatever has no formula -------------------------------------------------------------------


def counted_flops(module: nn.Module, *inputs: Any, **options: Any) -> float:
    """Operations of one call of a module, counted by running it under `FlopCounterMode`.

    For parts that no formula describes, such as convolutional towers. It costs a whole forward
    pass: count once for a shape of inputs and keep the number.
    """
    kernels = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=kernels) as counter:
        module(*inputs, **options)
    return float(counter.get_total_flops())


def _cpu_attention(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any
) -> int:
    """QK^T and AV of the attention kernel on CPUs, which torch itself counts as nothing."""
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])
