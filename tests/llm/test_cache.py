"""Counting what a cache really holds."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionLayer

from sparsight.llm.cache import kv_bytes, kv_tokens

from .tiny import SIZES, prompt, qwen2

HEADS, WIDTH = 2, SIZES["hidden_size"] // SIZES["num_attention_heads"]


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_are_keys_and_values_of_every_layer(dtype: torch.dtype, size: int) -> None:
    model = qwen2().to(dtype)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(inputs_embeds=prompt(model, 3, 7), past_key_values=cache)
    assert kv_tokens(cache) == [7] * 5
    assert kv_bytes(cache) == 2 * 5 * 3 * HEADS * 7 * WIDTH * size


def test_layers_of_different_lengths_are_counted_each() -> None:
    cache = Cache(layers=[DynamicLayer(), DynamicLayer(), DynamicLayer()])
    cache.update(torch.zeros(1, 2, 9, 4), torch.zeros(1, 2, 9, 4), 0)
    cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 2)
    assert kv_tokens(cache) == [9, 0, 3]
    assert kv_bytes(cache) == 2 * 2 * (9 + 3) * 4 * 4


def test_an_empty_cache_holds_nothing() -> None:
    assert kv_tokens(DynamicCache()) == []
    assert kv_bytes(DynamicCache()) == 0
    assert kv_bytes(DynamicCache(config=qwen2().config)) == 0


def test_a_static_cache_holds_what_it_has_set_aside() -> None:
    model = qwen2()
    cache = StaticCache(config=model.config, max_cache_len=32)
    with torch.no_grad():
        model(inputs_embeds=prompt(model, 1, 7), past_key_values=cache)
    assert kv_bytes(cache) == 2 * 5 * HEADS * 32 * WIDTH * 4
    assert kv_tokens(cache) == [32] * 5


def test_layers_without_keys_count_their_states_alone() -> None:
    cache = Cache(layers=[LinearAttentionLayer()])
    cache.update_conv_state(torch.zeros(1, 6, 4), 0)
    cache.update_recurrent_state(torch.zeros(1, 2, 3, 3), 0)
    assert kv_tokens(cache) == [0]
    assert kv_bytes(cache) == (6 * 4 + 2 * 3 * 3) * 4
