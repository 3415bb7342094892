"""A decoder built by hand that answers about rooms of voxels, and such rooms.

Each visual token is a voxel: the shape of the thing it belongs to, its color, its place. The
question names a shape; in the layers that look, each word of it attends to the voxels of that shape
and to nothing else, all alike; the answer is the color that most of them have. Where a layer does
not look, and for all other tokens, attention rests on the first token, which holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from sparsight.llm.layout import Layout

VOXELS, COLORS, WIDTH = 48, 4, 32
SHAPE, ASKED, OTHER, FIRST, COLOR, OUT, PLACE, BALLAST = 0, 3, 6, 7, 8, 12, 16, 31
_REST, _MATCH = 4, 5  # dimensions of a head, of such low frequency that rotation does nothing


def planted(layers: int, looks: Iterable[int]) -> Any:
    """The decoder; `looks` are the layers in which the question looks at the voxels."""
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=layers, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, vocab_size=COLORS, max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        for i, layer in enumerate(model.model.layers):
            attention = layer.self_attn
            query, key = attention.q_proj.weight, attention.k_proj.weight
            query[_REST, OTHER], key[_REST, FIRST] = 8.0, 6.0
            for shape in range(3):
                query[_MATCH + shape if i in set(looks) else _REST, ASKED + shape] = 8.0
                key[_MATCH + shape, SHAPE + shape] = 6.0
            for color in range(COLORS):
                attention.v_proj.weight[color, COLOR + color] = 1.0
                attention.o_proj.weight[OUT + color, color] = 1.0
        for color in range(COLORS):
            model.lm_head.weight[color, OUT + color] = 20.0
    return model


def scene(things: int) -> tuple[Tensor, Layout, Tensor]:
    """A room in which `things` voxels are of the shape asked about, one color ahead among them.

    Returns embeddings (1, L, WIDTH), their layout, and the columns of these voxels (things,).
    """
    asked = int(torch.randint(3, ()))
    voxels = torch.zeros(VOXELS, WIDTH)
    mine = torch.randperm(VOXELS)[:things].sort().values
    shape = (asked + torch.randint(1, 3, (VOXELS,))) % 3
    shape[mine] = asked
    color = torch.randint(COLORS, (VOXELS,))
    while color[mine].bincount(minlength=COLORS).topk(2).values.diff() == 0:
        color[mine] = torch.randint(COLORS, (things,))
    rows = torch.arange(VOXELS)
    voxels[rows, SHAPE + shape] = voxels[rows, COLOR + color] = voxels[:, OTHER] = 1.0
    voxels[:, PLACE : PLACE + 3] = torch.rand(VOXELS, 3)
    system, question = torch.zeros(2, WIDTH), torch.zeros(3, WIDTH)
    system[0, FIRST] = 1.0
    system[:, OTHER] = 1.0
    question[:, ASKED + asked] = 1.0
    embeds = torch.cat([system, voxels, question])
    # All of one norm, so that the norms before the layers change nothing.
    embeds[:, BALLAST] = (WIDTH - embeds.square().sum(1)).sqrt()
    visual = torch.zeros(1, len(embeds), dtype=torch.bool)
    visual[:, 2 : 2 + VOXELS] = True
    return embeds[None], Layout.of(torch.ones_like(visual), visual), mine + 2
